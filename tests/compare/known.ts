/** A difference that is meant, or that does not matter to clients. */
interface Known {
  /** Matches `<group> | <call> | <difference>`. */
  where: RegExp
  reason: string
}

export const known: readonly Known[] = [
  // Headers
  { where: /\/pulp\/content\/.* \| x-content-type-options: "nosniff"/, reason: 'content is not to be guessed at by browsers' },
  { where: /\/pulp\/content\/.* \| content-type: "text\/html; charset=utf-8"/, reason: 'names in listings are UTF-8, and the header says so' },
  { where: /(uploads|\{upload\}).* \| allow: /, reason: 'OPTIONS is missing in Pulp: a mistake in its view' },
  { where: /workers\/.* \| allow: /, reason: 'HEAD is missing in Pulp' },
  { where: /domains\/.* \| allow: /, reason: 'there is one domain, and no way to make another' },
  { where: /login\/ \| allow: /, reason: 'there are no sessions: whoever asks sends name and password' },
  { where: /OPTIONS .* \| status: 405 where Pulp has 403/, reason: 'there is no description of a resource to refuse' },

  // Addresses and encodings
  { where: /(GET \/pulp\/api\/v3|-8000-000000000000) \| /, reason: 'no redirects in the API: what lacks the slash does not exist' },
  { where: /"accept":"text\/csv"|format=xml/, reason: 'every answer is JSON, whatever is asked for' },
  { where: /docs\/api\.json \| /, reason: 'JSON is called JSON, so that browsers show it' },
  { where: /body\.detail: "JSON parse error/, reason: "the parser's own words" },

  // Formats
  { where: /\| body\.(results\.\d+\.)?gpgkey: null/, reason: 'our addition: the key that signs the upstream' },
  { where: /\| body\.(results\.\d+\.)?sha(1|224|384|512): null/, reason: 'a download computes the digests that are needed to verify and store it' },
  { where: /\| body\.(results\.\d+\.)?distributions: \[\] where Pulp has nothing/, reason: 'our addition: Pulp has it for file publications only' },
  { where: /\| body\.(results\.\d+\.)?compression_type: "gz" where Pulp has null/, reason: 'a publication says what it is compressed with' },
  { where: /\| body\.(results\.\d+\.)?layout: "flat"/, reason: 'Pulp publishes flat, but shows the default' },
  { where: /\| body\.(results\.\d+\.)?digest: /, reason: 'Pulp hashes the text form of a Python object' },
  { where: /GET \{(first|second)\} \| body\.time_file/, reason: 'when the file arrived' },
]
