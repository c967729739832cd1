import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { run } from '../tests/e2e/run.ts'
import type { Tells, Told } from './lossy-disk.ts'

/*
 * lossy-disk.ts ── nbdfuse ── loop device ── file system: mounted while it has power, on a machine without network block devices of its own.
 */

// xfs takes nothing smaller than 300 MiB.
const size = 320 << 20

/** What must be done before this can run here: a sentence. */
export async function findMissing(fileSystem: string): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'Power cuts need Linux and root: file systems are mounted.'
  if (!existsSync('/dev/fuse') || !existsSync('/dev/loop-control'))
    return 'Power cuts need /dev/fuse and /dev/loop-control, which this machine does not give.'
  const packages: Record<string, string> = {
    nbdfuse: 'libnbd-bin',
    fusermount3: 'fuse3',
    strace: 'strace',
    losetup: 'mount',
    [`mkfs.${fileSystem}`]: { ext4: 'e2fsprogs', xfs: 'xfsprogs', btrfs: 'btrfs-progs' }[fileSystem] ?? fileSystem,
  }
  const missing: string[] = []
  for (const [program, name] of Object.entries(packages))
    if ((await run('sh', ['-c', `command -v ${program}`], { mayFail: true })).code !== 0) missing.push(name)
  return missing.length > 0 ? `Power cuts need Debian's ${missing.join(', ')}: apt-get install ${missing.join(' ')}` : undefined
}

export type Cut = Extract<Tells, { state: 'cut' }>

/** The disk, and where its file system is mounted while it has power. */
export async function openDisk(directory: string, fileSystem: string) {
  const socket = join(directory, 'socket')
  const fuse = join(directory, 'fuse')
  const mounted = join(directory, 'mounted')
  await Promise.all([fuse, mounted].map((each) => mkdir(each)))
  const worker = new Worker(new URL('./lossy-disk.ts', import.meta.url), { workerData: { socket, size } })
  const told = (state: Tells['state']) =>
    new Promise<Tells>((resolve) => {
      const listen = (tells: Tells) => {
        if (tells.state !== state) return
        worker.off('message', listen)
        resolve(tells)
      }
      worker.on('message', listen)
    })
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  const tell = (message: Told) => worker.postMessage(message)
  let mount: { bridge: ChildProcess; loop: string } | undefined
  let cut: Promise<Tells> | undefined
  let isFormatted = false

  return {
    mounted,
    /** Resolves to what tells when the power is gone. */
    async on(): Promise<{ gone: Promise<Tells> }> {
      const ready = told('on')
      cut = told('cut')
      tell({ power: 'on' })
      await ready
      const bridge = spawn('nbdfuse', [fuse, '--unix', socket], { stdio: 'ignore' })
      const file = join(fuse, 'nbd')
      for (let tries = 0; (await run('test', ['-e', file], { mayFail: true })).code !== 0; tries++) {
        if (tries > 600) throw new Error('nbdfuse does not come up.')
        await sleep(50)
      }
      mount = { bridge, loop: (await run('losetup', ['--find', '--show', file])).stdout.trim() }
      if (!isFormatted) await run(`mkfs.${fileSystem}`, ['-q', ...(fileSystem === 'ext4' ? [] : ['-f']), mount.loop])
      isFormatted = true
      await run('mount', ['-t', fileSystem, mount.loop, mounted])
      return { gone: cut }
    },
    /** At once or after so many more writes, whatever is running. */
    cut: (after?: number) => tell({ power: 'cut', ...(after !== undefined && { after }) }),
    /** Cuts it off, if it is not yet, and forgets its mount: when nothing that runs uses it. */
    async off(): Promise<Cut | undefined> {
      if (!mount) return undefined
      const { bridge, loop } = mount
      mount = undefined
      tell({ power: 'cut' })
      const counts = await cut!
      await run('umount', ['--lazy', mounted], { mayFail: true })
      await run('losetup', ['--detach', loop], { mayFail: true })
      await run('fusermount3', ['-u', '-z', fuse], { mayFail: true })
      if (bridge.exitCode === null && bridge.signalCode === null) {
        const ended = new Promise((resolve) => bridge.once('exit', resolve))
        bridge.kill('SIGKILL')
        await ended
      }
      return counts as Cut
    },
    stop: () => worker.terminate(),
  }
}
