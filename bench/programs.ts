import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'

/** Where a program is: in the folder that PEERS names, or in PATH, or where Debian has servers, which PATH often leaves out. */
export async function findProgram(name: string): Promise<string | undefined> {
  const folders = [process.env['PEERS'], ...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin']
  for (const folder of folders) {
    const path = folder && join(folder, name)
    if (path && (await isThere(path))) return path
  }
  return undefined
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** Debian's package where it is called otherwise. */
const packages: Partial<Record<string, string>> = { createrepo_c: 'createrepo-c', mergerepo_c: 'createrepo-c' }

/** What a benchmark cannot do without and is not here, as a sentence. */
export async function describeMissing(benchmark: string, programs: readonly string[]): Promise<string | undefined> {
  const missing: string[] = []
  for (const program of programs) if (!(await findProgram(program))) missing.push(program)
  if (missing.length === 0) return undefined
  const wanted = [...new Set(missing.map((program) => packages[program] ?? program))]
  return `The benchmark "${benchmark}" needs ${missing.join(' and ')}: on Debian, apt install ${wanted.join(' ')}.`
}
