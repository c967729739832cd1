import type { Command } from './command.ts'

interface Listed {
  readonly about: string
  /** Loaded when it is called, so that `status` does not wait for a server's code. */
  load(): Promise<Command>
}

/** Every command, in the order of help: as a night goes. */
export const commands: Readonly<Record<string, Listed>> = {
  serve: { about: 'Run the server', load: async () => (await import('./serve.ts')).serve },
  apply: { about: 'Make the server match train.yaml', load: async () => (await import('./apply.ts')).apply },
  sync: { about: 'Sync repositories and snapshot what is new', load: async () => (await import('./sync.ts')).sync },
  status: { about: 'Where each line stands', load: async () => (await import('./status.ts')).status },
  diff: {
    about: 'What differs between what is released, what is pinned and what is newest',
    load: async () => (await import('./diff.ts')).diff,
  },
  pin: { about: 'Write which snapshots a line is at', load: async () => (await import('./pin.ts')).pin },
  promote: { about: 'Put what a line is pinned to at a stage', load: async () => (await import('./promote.ts')).promote },
  'signing-service': {
    about: 'The scripts that sign metadata and images',
    load: async () => (await import('./signing.ts')).signingService,
  },
  prune: { about: 'Delete old snapshots that nobody needs', load: async () => (await import('./prune.ts')).prune },
  demo: { about: 'A server with a small train to look at (npm start)', load: async () => (await import('./demo.ts')).demo },
}
