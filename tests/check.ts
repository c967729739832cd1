import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/* npm run check: everything that can be said of the code without running it. One line each; what is wrong is printed below it. */

process.chdir(fileURLToPath(new URL('../', import.meta.url)))
const bin = 'node_modules/.bin'

const checks: readonly { name: string; command: readonly string[] }[] = [
  { name: 'types', command: [`${bin}/tsc`, '-p', '.'] },
  { name: 'lint', command: [`${bin}/oxlint`, '--type-aware', '--quiet'] },
  { name: 'format', command: [`${bin}/biome`, 'format', '.'] },
  { name: 'unused', command: [`${bin}/knip`] },
  { name: 'architecture', command: [process.execPath, '--test', 'tests/architecture.test.ts'] },
]

for (const { name, command } of checks) {
  const started = performance.now()
  const { code, output } = await run(command)
  console.log(`${code === 0 ? '✓' : '✗'} ${name.padEnd(14)}${((performance.now() - started) / 1000).toFixed(1)} s`)
  if (code === 0) continue
  console.log(output.trimEnd())
  process.exitCode = 1
}

/** The tools' launchers ask for `node`: the pinned one comes first. */
function run([program, ...words]: readonly string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, PATH: `${process.execPath.replace(/\/node$/, '')}:${process.env['PATH']}`, NO_COLOR: '1' }
  return new Promise((resolve) => {
    execFile(program!, words, { env, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ code: error ? 1 : 0, output: `${stdout}${stderr}` || (error?.message ?? '') })
    })
  })
}
