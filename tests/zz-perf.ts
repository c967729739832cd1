import Fastify from 'fastify'
import { rm } from 'node:fs/promises'
import { sql } from 'kysely'
import { openDatabase } from '../src/store/database.ts'
import { openFsBlobs } from '../src/store/fs.ts'
import { openFetcher } from '../src/core/fetch.ts'
import { openLog } from '../src/lib/log.ts'
import { ensureRoles } from '../src/core/roles.ts'
import { ensureAdmin } from '../src/core/users.ts'
import { works } from '../src/core/work.ts'
import { registerPulp } from '../src/http/pulp/register.ts'
import { createResource } from '../src/core/resources.ts'
import { formats } from '../src/formats/index.ts'
await rm('/tmp/w/dd/perf.db', { force: true })
const db = await openDatabase(process.argv[2] ?? '/tmp/w/dd/perf.db')
const blobs = await openFsBlobs('/tmp/w/dd/pblobs')
let change = 0
const ctx: any = { db, blobs, formats, fetch: openFetcher({ blobs }), log: openLog('info'), config: { dataDirectory: '/tmp/w/dd', origin: undefined, allowedChecksums: ['sha256'] }, changes: { current: () => change, bump: () => void change++ }, tasks: { works, wake() {} } }
await ensureRoles(db, formats); await ensureAdmin(db, 'password')
const { ensureColumnIndexes } = await import('../src/store/column-indexes.ts'); await ensureColumnIndexes(db, formats.flatMap((f) => f.contentTypes.flatMap((t) => Object.entries(t.filters).map(([n, x]) => x.as ?? n))))
const N = 300000
console.time('fill')
await sql`with recursive n(i) as (select 1 union all select i+1 from n where i < ${N}) insert into content (uuid,type,key,variant,slot,meta,entry_at,entry_length,labels,created,updated,touched)
 select printf('01900000-0000-7000-8000-%012x', i), 'rpm.package', 'k'||i, '', 's'||i, json_object('name','pkg'||(i%20000),'epoch','0','version','1.'||i,'release','1','arch','x86_64','pkgId',printf('%064x',i),'checksum_type','sha256'), 0,0,'{}', i*1000, i*1000, i*1000 from n`.execute(db)
for (let r = 0; r < 5; r++) { const row: any = await createResource(ctx, 'repository', 'rpm.rpm', { name: 'r' + r }, 1)
 await sql`insert into membership(repository_id,content_id,added_in) select ${row.id}, id, 1 from content where id > ${r * 60000} and id <= ${r * 60000 + 60000}`.execute(db)
 await sql`insert into version(uuid,repository_id,number,counts,created,updated) values (${'01910000-0000-7000-8000-00000000000' + r}, ${row.id}, 1, ${JSON.stringify({ 'rpm.package': { present: 60000, added: 60000, removed: 0 } })}, 1, 1)`.execute(db) }
await sql`with recursive n(i) as (select 1 union all select i+1 from n where i < 10000) insert into distribution (uuid,type,name,labels,settings,created,updated,base_path,hidden) select printf('01920000-0000-7000-8000-%012x', i),'rpm.rpm','d'||i,'{"a":"b"}','{}',i,i,'snap/'||(i%200)||'/'||i,0 from n`.execute(db)
await sql`with recursive n(i) as (select 1 union all select i+1 from n where i < 50000) insert into task (uuid,name,kind,args,state,logging_cid,token,resources,created,updated) select printf('01930000-0000-7000-8000-%012x', i),'x.y','x','{}','completed','c',0,'["prn:rpm.rpmrepository:'||(i%200)||'"]',i,i from n`.execute(db)
console.timeEnd('fill')
const app = Fastify(); await registerPulp(app, ctx)
const auth = 'Basic ' + Buffer.from('admin:password').toString('base64')
const href = async (n: string) => JSON.parse((await app.inject({ url: '/pulp/api/v3/repositories/rpm/rpm/?name=' + n, headers: { authorization: auth } })).body).results[0].pulp_href
const r3 = await href('r3'), v = r3 + 'versions/1/'
for (const q of ['docs/api.json', 'docs/api.json', `content/rpm/packages/?fields=name&repository_version=${v}`, `content/rpm/packages/?fields=name&repository_version=${v}&limit=1000`, `content/rpm/packages/?fields=name&repository_version=${v}&limit=1000&offset=59000`, `content/rpm/packages/?fields=name&repository_version=${v}&name=pkg77`, `content/rpm/packages/?fields=name&name=pkg77`, `content/rpm/packages/?fields=name&name__contains=kg77`, `content/rpm/packages/?fields=name&repository_version=${v}&name__contains=kg77`, `content/rpm/packages/?fields=name&repository_version=${v}&ordering=name&fields=name,prn`, `content/rpm/packages/?fields=name`, `content/rpm/packages/?fields=name&q=repository_version="${v}" AND name=pkg77`, `content/rpm/packages/?fields=name&orphaned_for=0`, 'content/?limit=10', `content/?repository_version=${v}&limit=10`, 'distributions/rpm/rpm/?limit=1000', 'distributions/rpm/rpm/?name=d77', 'distributions/rpm/rpm/?base_path=snap/77/77', 'distributions/rpm/rpm/?base_path__contains=snap/77/', 'distributions/?pulp_label_select=a=b', 'tasks/', 'tasks/?reserved_resources=prn:rpm.rpmrepository:5', 'tasks/?state=running', 'tasks/?state__in=running,waiting', 'repositories/', 'status/', `repository_versions/?content=/pulp/api/v3/content/rpm/packages/01900000-0000-7000-8000-000000000001/`]) {
  const t = performance.now(); const r = await app.inject({ url: '/pulp/api/v3/' + q, headers: { authorization: auth } }); const ms = performance.now() - t
  console.log(ms.toFixed(1).padStart(8), r.statusCode, String(r.body.length).padStart(8), q.replaceAll(v, 'V').slice(0, 90), r.statusCode !== 200 ? r.body.slice(0, 200) : JSON.parse(r.body).count)
}
const t = performance.now()
const m = await app.inject({ method: 'POST', url: r3 + 'modify/', headers: { authorization: auth, 'content-type': 'application/json' }, payload: JSON.stringify({ add_content_units: Array.from({ length: 60000 }, (_, i) => `/pulp/api/v3/content/rpm/packages/01900000-0000-7000-8000-${(i + 1).toString(16).padStart(12, '0')}/`) }) })
console.log('modify 60000', (performance.now() - t).toFixed(0), m.statusCode)
const t2 = performance.now()
const d = await app.inject({ method: 'POST', url: '/pulp/api/v3/distributions/rpm/rpm/', headers: { authorization: auth, 'content-type': 'application/json' }, payload: JSON.stringify({ name: 'new', base_path: 'snap/7/new' }) })
console.log('distribution', (performance.now() - t2).toFixed(0), d.statusCode)
await app.close(); await db.destroy()
