import { DatabaseSync } from 'node:sqlite'
const db = new DatabaseSync('/tmp/w/dd/perf.db')
const show = (q: string) => { const t = performance.now(); const n = db.prepare(q).all().length; const ms = performance.now() - t; console.log(ms.toFixed(1), n, q.slice(0, 300)); for (const r of db.prepare('explain query plan ' + q).all()) console.log('    ', (r as any).detail) }
const c = `membership.repository_id = 3 and membership.added_in <= 1 and (membership.removed_in is null or membership.removed_in > 1)`
for (const y of ["content.type = 'rpm.package'", "(content.type || '') = 'rpm.package'"])
for (const j of ['inner join', 'cross join'])
 show(`select content.* from ${j === 'cross join' ? `membership cross join content on membership.content_id = content.id` : 'content inner join membership on membership.content_id = content.id'} where ${y} and ${c} order by membership.content_id desc limit 100`)
show(`select count(*) from content where type = 'rpm.package'`)
show(`select * from content where type = 'rpm.package' order by id desc limit 100`)
