/** `npm run bench -- NAME [arguments]`: runs one benchmark. Each compares with a real peer in the same run and prints medians. */
const benchmarks: Record<string, string> = {
  sync: './sync.ts',
  serving: './serving.ts',
  download: './download.ts',
  promote: './promote.ts',
  start: './start.ts',
  pulp: './pulp.ts',
  soak: './soak.ts',
}

const [name = '', ...args] = process.argv.slice(2)
const file = benchmarks[name]
if (!file) {
  console.error(
    `usage: npm run bench -- NAME\n  sync DIR CHANGED_DIR   read, publish and diff a large rpm repository, beside createrepo_c\n  serving                hot and large files, beside nginx\n  download               one large file, beside curl\n  promote                200 repositories at once\n  start                  time to ready, idle memory\n  pulp URL               the same calls to a real Pulp (admin/password)\n  soak                   pushes to the registry against garbage collection`,
  )
  process.exit(2)
}
const { bench } = (await import(file)) as { bench: (args: readonly string[]) => Promise<void> }
await bench(args)
