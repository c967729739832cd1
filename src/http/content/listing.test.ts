import assert from 'node:assert/strict'
import { test } from 'node:test'
import { renderListing, renderSize } from './listing.ts'

const modified = Date.UTC(2026, 10, 3, 9, 5) * 1000

test('a directory looks as Pulp shows it', () => {
  const lines = [{ name: 'PULP_MANIFEST', size: 573, modified }, { name: 'dir/' }, { name: 'x.rpm', size: 3000, modified }]
  assert.equal(
    [...renderListing('/pulp/content/hf/', lines)].join(''),
    `
<html>
<head><title>Index of /pulp/content/hf/</title></head>
<body bgcolor="white">
<h1>Index of /pulp/content/hf/</h1>
<hr><pre><a href="../">../</a>
<a href="PULP_MANIFEST">PULP_MANIFEST</a>${' '.repeat(87)}03-Nov-2026 09:05  573 Bytes
<a href="dir/">dir/</a>${' '.repeat(96)}  
<a href="x.rpm">x.rpm</a>${' '.repeat(95)}03-Nov-2026 09:05  3.0 kB
</pre><hr></body>
</html>
`,
  )
})

test('the root has no way up', () => {
  assert.doesNotMatch([...renderListing('/pulp/content/', [], true)].join(''), /\.\.\//)
})

test('names are text, never markup, and links lead to the very name', () => {
  const page = [...renderListing('/pulp/content/<b>&', [{ name: `a"><script>'&?#%.rpm` }])].join('')
  assert.match(page, /<title>Index of \/pulp\/content\/&lt;b&gt;&amp;<\/title>/)
  assert.match(page, /<a href="a%22%3E%3Cscript%3E'%26%3F%23%25.rpm">a&#34;&gt;&lt;script&gt;&#39;&amp;\?#%.rpm<\/a>/)
  assert.doesNotMatch(page, /<script>/)
})

test('a long listing comes in chunks', () => {
  const lines = Array.from({ length: 60_000 }, (_, index) => ({ name: `package-${index}.rpm` }))
  const chunks = [...renderListing('/x/', lines)]
  assert.ok(chunks.length > 100)
  assert.ok(Math.max(...chunks.map(({ length }) => length)) < 40_000)
})

const sizes = [
  [0, '0 Bytes'],
  [1, '1 Byte'],
  [999, '999 Bytes'],
  [1000, '1.0 kB'],
  [1500, '1.5 kB'],
  [1_000_000, '1.0 MB'],
  [2_500_000_000, '2.5 GB'],
] as const

for (const [bytes, text] of sizes) test(`${bytes} bytes are ${text}`, () => assert.equal(renderSize(bytes), text))
