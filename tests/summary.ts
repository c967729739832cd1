import type { TestEvent } from 'node:test/reporters'

/** Ends the output with `# tests 12`, `# pass 12`, ... as TAP does, whatever the other reporter prints. */
export default async function* summary(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type !== 'test:diagnostic' || event.data.nesting !== 0) continue
    if (/^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /.test(event.data.message))
      yield `# ${event.data.message}\n`
  }
}
