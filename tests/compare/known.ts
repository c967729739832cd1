/** A difference that is meant, or that does not matter to clients. */
interface Known {
  /** Matches `<group> | <call> | <difference>`. */
  where: RegExp
  reason: string
}

/** `body.`, or of each item of a list. */
const item = String.raw`\| body\.(results\.\d+\.)?`

export const known: readonly Known[] = [
  { where: /\| status: \d+ where Pulp has 500/, reason: 'Pulp breaks' },

  // Headers
  {
    where: /(\/pulp\/content\/|\{(directory|manifest)\}).* \| x-content-type-options: "nosniff"/,
    reason: 'browsers are not to guess what content is',
  },
  {
    where: /(\/pulp\/content\/|\{directory\}).* \| content-type: "text\/html; charset=utf-8"/,
    reason: 'names in listings are UTF-8, and the header says so',
  },
  { where: /(uploads\/|\{upload\}).* \| allow: /, reason: 'OPTIONS is missing in Pulp by mistake' },
  { where: /workers\/.* \| allow: /, reason: 'HEAD is missing in Pulp' },
  { where: /domains\/.* \| allow: /, reason: 'there is one domain, and no way to make another' },
  { where: /OPTIONS .* \| status: 405 where Pulp has 403/, reason: 'refused either way: there are no descriptions of resources' },

  { where: /\| cache-control: /, reason: 'caches on the way are told what they may keep' },

  // Addresses and encodings
  {
    where: /(GET \/pulp\/api\/v3|-8000-000000000000) \| /,
    reason: 'no redirects in the API: what lacks the slash does not exist',
  },
  { where: /^accept /, reason: 'every answer is JSON, whatever is asked for' },
  { where: /docs\/api\.json \| /, reason: 'JSON is called JSON, so that browsers show it' },
  { where: /body\.detail: "JSON parse error/, reason: "the parser's own words" },
  {
    where: /\| body\.results\.\d\.tls_validation: true|\| body\.tls_validation: true/,
    reason: 'in a form without this field, Pulp takes it for false: certificates would go unchecked',
  },
  { where: /\/one\/\/one\.txt \| /, reason: "the Pulp's nginx takes two slashes for one" },

  // Fields
  { where: new RegExp(`${item}immutable_tags: \\[\\]`), reason: 'our addition: tags that cannot be moved' },
  {
    where: /\{through\}set_label|remotes\/.* \| body\.results\.\d\.pulp_labels\.a: "b"/,
    reason: 'labels can be set on every remote',
  },
  { where: /DELETE \{ns\} \| task\.reserved_resources_record/, reason: 'the same, in another order' },
  { where: /body\.base_path\.base_path: "Overlaps with .* where Pulp has "Overlaps with /, reason: 'one of several is named' },
  {
    where: /DELETE \{b\} \| task\.reserved_resources_record/,
    reason: 'all changes of distributions exclude one another',
  },
  { where: /\| body\.(results\.\d+\.)?listed_manifests\.\d/, reason: 'in the order of the list' },
  { where: /-ns\/guarded/, reason: 'the guard that answers name can be sent back; Pulp finds none by its href' },
  { where: /\/composite\/.* \| body\.(results\.\d+\.)?guards\.\d/, reason: 'Pulp gives the members in no order' },
  { where: new RegExp(`${item}gpgkey: null`), reason: 'our addition: the key that signs the upstream' },
  {
    where: new RegExp(`${item}sha(1|224|384|512): null`),
    reason: 'a download computes the digests that it needs, Pulp all that are allowed',
  },
  {
    where: new RegExp(`${item}distributions: \\[\\] where Pulp has nothing`),
    reason: 'our addition: Pulp has it for file publications only',
  },
  {
    where: new RegExp(`${item}compression_type: "gz" where Pulp has null`),
    reason: 'a publication says what it is compressed with',
  },
  { where: new RegExp(`${item}layout: "flat"`), reason: 'Pulp publishes flat, but shows the default' },
  { where: new RegExp(`${item}digest: `), reason: 'Pulp hashes the text form of a Python object' },
  { where: /GET \{(first|second)\} \| body\.time_file/, reason: 'when the file arrived' },
  {
    where: /GET \{(first|second)\} \| body\.files/,
    reason: 'an uploaded package looks like a synced one: no digests of the files in it',
  },
  {
    where: /distribution_trees.* \| body\.|GET \{item\} \| body\.pulp_labels/,
    reason: 'a tree shows what all content shows; its images are among its artifacts',
  },
  { where: /GET \{bob\}\?fields=/, reason: 'fields work everywhere; Pulp forgets them for users' },
  { where: /hidden_fields,name \| body\.hidden_fields/, reason: 'Pulp loses the secrets that were not asked for by name' },
  { where: /body\.groups\.0\.prn/, reason: 'one name for a group: Pulp has two, and finds nothing by this one' },
  {
    where: /status\/.* \| body\.content_settings\.content_origin: null/,
    reason: 'without a configured origin, it is that of the request',
  },
  {
    where: /(roles|domains)\/.* \| body\.results\.0\.(pulp_created|pulp_last_updated|storage_settings)/,
    reason: 'made when the server was',
  },
  { where: /PATCH \{made\} .* \| body\.(created_by|worker)/, reason: 'a refused cancel shows the task as it is' },

  // Tasks and what they tell
  {
    where: /task\.progress_reports\.reclaim/,
    reason: 'files that other repositories hold stay; Pulp says so too, and gives them up',
  },
  {
    where: /\| task\.progress_reports\.(sync|associating|unassociating|publish)/,
    reason: 'reports of what is really done, with totals where they are known',
  },
  { where: /\| task\.error\.description: .*ErrorDetail\(/, reason: 'the sentence without the Python around it' },
  {
    where: /(sync\/|content\/\w+\/\w+\/) .* \| task\.error\.description: /,
    reason: 'our words: what is wrong with which upstream, file or line',
  },

  // Filters
  {
    where: /(publications|distributions)\/rpm\/rpm\/\?(with_)?content=\{v\} \| /,
    reason: 'a version is no content, and is refused in the same words everywhere',
  },
  { where: /versions\/\?.*pulp_href__in/, reason: 'does not work in Pulp' },
  {
    where:
      /ordering=-?(rate_limit|username|max_retries|total_timeout|pulp_labels|enc_kwargs|reserved_resources_record|versions) \| /,
    reason: 'settings, labels and lists are no order',
  },
  { where: /access_policies\/.*ordering=/, reason: 'all are made at once, when the server is' },
  { where: /media_type=&/, reason: 'an empty choice is as if the filter were not there' },
  { where: /contains_permission=.*,/, reason: 'a list may be given with commas too' },

  // Refusals
  {
    where: /^wrong bodies .* \| body\.(ca_cert|client_cert|sigstore|base_path)/,
    reason: 'certificates, paths and addresses are looked at when all else is right',
  },
  {
    where: /^wrong bodies .* is not a valid choice\./,
    reason: 'a wrong choice is shown as it came, not as Python would write it',
  },
  { where: /^wrong bodies .* "String value too large\."/, reason: 'one sentence for whatever is no number' },
  {
    where: /^wrong bodies .*:(true|1\d{20}),.* \["A valid (integer|number) is required\."\] where Pulp has nothing/,
    reason: 'neither true nor what no column holds is a number',
  },
  { where: /"a\\u0000b"/, reason: 'what no database stores is refused as a whole' },
  { where: /artifacts\/ \{"bogus".* \| body\.(file|size)/, reason: 'JSON carries no file, whatever it says instead' },
  {
    where: /distributions\/container\/container\/ \{"bogus".* \| body\.base_path/,
    reason: 'a path is looked at when all else is right',
  },
  { where: /"guards":\{\}/, reason: 'an empty object is no list' },
  {
    where: /body\.non_field_errors\.0: "Exactly one of /,
    reason: 'Pulp names the fields in an order that changes with each start',
  },
  { where: /\| body: "403: Access forbidden\."/, reason: "a refusal does not name other guards and the program's classes" },
  {
    where: /\{"name":"\{run\}-x\d+","header_name":"a","header_value":"b","jq_filter"/,
    reason: 'a filter that can never match is refused when it is set',
  },
  { where: /^guards \| (GET|DELETE) \{header\} \| /, reason: 'a guard in use stays: Pulp deletes it, and opens what it guarded' },
  { where: /"base_path":"\{run\}-odd\/\/x"/, reason: 'an empty segment is no path; Pulp takes it' },
  { where: /"password":"12345678901"/, reason: 'a shorter list of common passwords' },
  { where: /\{team\}users\/ .* \| body/, reason: 'what is wrong is said by field' },
  { where: /\{team\}list_roles/, reason: 'whoever makes a group owns it, as with everything else' },
  { where: /\{pub\}list_roles/, reason: 'administrators need no roles on publications, of which there are many' },
  { where: /\{made\}my_permissions/, reason: 'administrators need no roles on tasks, of which there are many' },
  { where: /"domain":"/, reason: 'both are wrong; we say the other' },
  { where: /"(metadata|manifest)_signing_service":"\/pulp/, reason: 'there are no signing services to be found' },
  { where: /"checksum_type":"sha1"/, reason: 'this Pulp allows SHA-1, and says what else is wrong' },
  { where: /"skip_types":\["nosuch"\]/, reason: 'a wrong choice is said of the list, as with all other lists' },
  { where: /"size":-1/, reason: 'a negative size is refused' },
  { where: /"bytes 0-99\/16"/, reason: 'both are wrong; we say the other' },
  {
    where: /"relative_path"\].* \| task\.created_resources/,
    reason: 'the same package in another place is another unit, so that each repository keeps its own layout',
  },

  // Content
  { where: /-checkpoints\/ \| body: /, reason: 'a listing says of what it is' },
  { where: /"range":"(nonsense|bytes=0-1,3-4)"/, reason: 'RFC 9110: what is not understood or not supported is ignored' },
  { where: /\/one\.txt .* \| (etag|last-modified) is there: true/, reason: 'more headers with a 416 or 412 do no harm' },
  { where: /PULP_MANIFEST \| body: /, reason: 'in the order of names, so that the same content gives the same bytes' },
  {
    where: /(\.rpm|vmlinuz).* \| (accept-ranges|etag is there|last-modified is there|content-type)/,
    reason: 'an on-demand file is verified before it is sent, so that it has its headers the first time too',
  },
  {
    where: /\.treeinfo \| |-(zoo|bare)\/ \| body: |repomd\.xml \| x-pulp-artifact-size/,
    reason: 'a tree is served as the upstream has it; Pulp writes it anew',
  },
]
