/** Tags of the main header that we read. https://rpm-software-management.github.io/rpm/manual/tags.html */
export const tags = {
  name: 1000,
  version: 1001,
  release: 1002,
  epoch: 1003,
  summary: 1004,
  description: 1005,
  buildTime: 1006,
  buildHost: 1007,
  size: 1009,
  vendor: 1011,
  license: 1014,
  packager: 1015,
  group: 1016,
  url: 1020,
  arch: 1022,
  oldFileNames: 1027,
  fileModes: 1030,
  fileFlags: 1037,
  sourceRpm: 1044,
  archiveSize: 1046,
  changelogTime: 1080,
  changelogName: 1081,
  changelogText: 1082,
  sourcePackage: 1106,
  dirIndexes: 1116,
  baseNames: 1117,
  dirNames: 1118,
  longSize: 5009,
  modularityLabel: 5096,
  payloadSizeAlt: 5113,
} as const

/** Tags of the signature header. Small archives have `payloadSize`, large ones `longArchiveSize`. */
export const signatureTags = { longArchiveSize: 271, payloadSize: 1007 } as const

/** Where each kind of dependency lies: names, comparison flags, versions. */
export const dependencyTags = {
  provides: [1047, 1112, 1113],
  conflicts: [1054, 1053, 1055],
  obsoletes: [1090, 1114, 1115],
  requires: [1049, 1048, 1050],
  suggests: [5049, 5051, 5050],
  enhances: [5055, 5057, 5056],
  recommends: [5046, 5048, 5047],
  supplements: [5052, 5054, 5053],
  /** How SUSE wrote weak dependencies before rpm 4.12. */
  oldSuggests: [1156, 1158, 1157],
  oldEnhances: [1159, 1161, 1160],
} as const

/** Bits of a dependency's flags. */
export const sense = {
  less: 1 << 1,
  greater: 1 << 2,
  equal: 1 << 3,
  postTrans: 1 << 5,
  preReq: 1 << 6,
  preTrans: 1 << 7,
  scriptPre: 1 << 9,
  scriptPost: 1 << 10,
  missingOk: 1 << 19,
  strong: 1 << 27,
} as const

/** The bit of a file's flags that marks a file which is owned but not packed. */
export const ghostFile = 1 << 6
