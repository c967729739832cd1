import { copyFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './run.ts'

export interface Package {
  name: string
  version?: string
  release?: string
  epoch?: number
  arch?: 'noarch' | 'x86_64'
  /** Spec lines as they are: `Requires: (a or b)`. */
  lines?: string[]
  /** Extra lines of and sections behind %install, and what %files lists then. */
  sections?: string
  files?: string
  changelog?: string
  /** Builds the source package, too. */
  source?: boolean
}

/** Builds small packages with rpmbuild into `directory`. Returns their file names. */
export async function buildRpms(directory: string, packages: readonly Package[]): Promise<string[]> {
  const top = join(directory, '.build')
  await mkdir(join(top, 'SPECS'), { recursive: true })
  const define = (name: string, value: string) => ['--define', `${name} ${value}`]
  const settings = [
    '--quiet',
    '--nodeps',
    '--target',
    'x86_64',
    ...define('_topdir', top),
    ...define('_build_id_links', 'none'),
    ...define('debug_package', '%{nil}'),
    ...define('__os_install_post', '%{nil}'),
  ]
  for (const source of [false, true]) {
    const specs: string[] = []
    for (const [index, each] of packages.entries()) {
      if ((each.source ?? false) !== source) continue
      const spec = join(top, 'SPECS', `${index}.spec`)
      await writeFile(spec, renderSpec(each))
      specs.push(spec)
    }
    if (specs.length > 0) await run('rpmbuild', [source ? '-ba' : '-bb', ...settings, ...specs])
  }
  const built: string[] = []
  for (const entry of await readdir(top, { recursive: true, withFileTypes: true }))
    if (entry.isFile() && entry.name.endsWith('.rpm')) {
      await copyFile(join(entry.parentPath, entry.name), join(directory, entry.name))
      built.push(entry.name)
    }
  await rm(top, { recursive: true })
  return built
}

function renderSpec({
  name,
  version = '1.0',
  release = '1',
  epoch,
  arch = 'noarch',
  lines = [],
  sections = '',
  files = '',
  changelog = '',
}: Package): string {
  return `Name: ${name}
Version: ${version}
Release: ${release}
${epoch === undefined ? '' : `Epoch: ${epoch}\n`}Summary: Package ${name}
License: Apache-2.0
${arch === 'noarch' ? 'BuildArch: noarch\n' : ''}${lines.join('\n')}
%description
The package ${name} & <friends>.
%install
mkdir -p %{buildroot}/usr/share/${name} %{buildroot}/etc
echo ${name} ${version}-${release} > %{buildroot}/usr/share/${name}/version
echo ${name} > %{buildroot}/etc/${name}.conf
${sections}
%files
/usr/share/${name}
%config /etc/${name}.conf
${files}
${changelog === '' ? '' : `%changelog\n${changelog}\n`}`
}

/** Writes repodata for the packages of a directory, as createrepo_c does by default or with more arguments. */
export async function createRepository(directory: string, ...args: string[]): Promise<void> {
  await run('createrepo_c', ['--quiet', ...args, directory])
}

/** Adds a metadata file to repodata: `updateinfo`, `modules`, or of a type that nobody knows. */
export async function addMetadata(directory: string, type: string, name: string, text: string, ...args: string[]): Promise<void> {
  const file = join(directory, name)
  await writeFile(file, text)
  await run('modifyrepo_c', ['--mdtype', type, ...args, file, join(directory, 'repodata')])
  await rm(file)
}

/** A signing key of its own: signs packages and repomd.xml. */
export interface Key {
  /** Path of a file. */
  readonly publicKey: string
  readonly fingerprint: string
  signRpms(files: readonly string[]): Promise<void>
  signRepomd(repository: string): Promise<void>
}

export async function makeKey(directory: string): Promise<Key> {
  const home = join(directory, 'gnupg')
  await mkdir(home, { recursive: true, mode: 0o700 })
  const gpg = (...args: string[]) =>
    run('gpg', ['--homedir', home, '--batch', '--yes', '--pinentry-mode', 'loopback', '--passphrase', '', ...args])
  await gpg('--quick-gen-key', 'Test <test@localhost>', 'rsa2048', 'sign', 'never')
  const listed = (await gpg('--list-secret-keys', '--with-colons')).stdout
  const fingerprint = /^fpr:+([0-9A-F]+):/m.exec(listed)![1]!
  const publicKey = join(directory, 'key.asc')
  await writeFile(publicKey, (await gpg('--armor', '--export', fingerprint)).stdout)
  return {
    publicKey,
    fingerprint,
    async signRpms(files) {
      const defines = [
        ['_gpg_name', fingerprint],
        ['_gpg_path', home],
        ['__gpg', '/usr/bin/gpg'],
      ].flatMap(([name, value]) => ['--define', `${name} ${value}`])
      await run('rpmsign', ['--addsign', ...defines, ...files])
    },
    async signRepomd(repository) {
      await gpg('--armor', '--detach-sign', join(repository, 'repodata', 'repomd.xml'))
    },
  }
}

/** A dnf that knows one repository and nothing of this machine's. */
export function dnf(root: string, url: string, options: Record<string, string> = {}) {
  const settings = Object.entries({ gpgcheck: '0', repo_gpgcheck: '0', ...options }).flatMap(([key, value]) => [
    '--setopt',
    `it.${key}=${value}`,
  ])
  const base = [
    '-y',
    `--installroot=${root}`,
    '--releasever=9',
    '--forcearch=x86_64',
    '--setopt=reposdir=/nonexistent',
    `--setopt=cachedir=${root}/cache`,
    '--setopt=keepcache=0',
    '--setopt=module_platform_id=platform:el9',
    '--setopt=install_weak_deps=0',
    '--setopt=tsflags=noscripts',
    `--repofrompath=it,${url}`,
    '--repo=it',
    ...settings,
  ]
  return (args: readonly string[], mayFail = false) => run('dnf', [...base, ...args], { mayFail, env: { HOME: root } })
}
