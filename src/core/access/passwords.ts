import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto'
import { Failure } from '../../lib/failure.ts'

/*
 * A stored password is `scrypt$N$r$p$salt$hash`, salt and hash in base64. One that starts with `!` fits no password.
 */
const cost = { N: 2 ** 14, r: 8, p: 1 }
const hashLength = 32
/** One check holds a core for some 50 ms: more at once would starve all other work of the process. */
const atOnce = 2
const waitingAtMost = 100

/** Hashes and checks passwords, a few at a time. */
export interface Hasher {
  /** Throws Failure conflict when too many wait already. */
  hash(password: string): Promise<string>
  /** False for an undefined or unusable `stored`, after as much work as for a real one. Throws Failure conflict as hash does. */
  verify(password: string, stored: string | undefined): Promise<boolean>
}

export function openHasher(): Hasher {
  const limit = openQueue()
  return {
    async hash(password) {
      const salt = randomBytes(16)
      const hash = await limit(() => derive(password, salt, cost))
      return `scrypt$${cost.N}$${cost.r}$${cost.p}$${salt.toString('base64')}$${hash.toString('base64')}`
    },
    async verify(password, stored) {
      const { salt, hash, cost: its } = parseStored(stored) ?? { salt: randomBytes(16), hash: undefined, cost }
      const found = await limit(() => derive(password, salt, its))
      return hash !== undefined && timingSafeEqual(hash, found)
    },
  }
}

/** What is stored for a user who cannot log in with a password. */
export function unusablePassword(): string {
  return `!${randomBytes(20).toString('hex')}`
}

/** Why a new password is refused, in Django's words; empty when it is not. */
export function passwordProblems(password: string): string[] {
  const problems = []
  if ([...password].length < 8) problems.push('This password is too short. It must contain at least 8 characters.')
  if (isCommon(password.toLowerCase().trim())) problems.push('This password is too common.')
  if (/^\p{Nd}+$/u.test(password)) problems.push('This password is entirely numeric.')
  return problems
}

/** A gate that lets a few pass at once, holds some more, and refuses the rest. */
function openQueue() {
  let running = 0
  const waiting: (() => void)[] = []
  return async <T>(act: () => Promise<T>): Promise<T> => {
    if (running < atOnce) running++
    else if (waiting.length >= waitingAtMost)
      throw new Failure('conflict', 'Too many passwords are being checked; try again in a few seconds.')
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await act()
    } finally {
      // The place goes straight to the next in line, so that nobody who comes later takes it.
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }
}

function derive(password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, hashLength, options, (error, hash) => (error ? reject(error) : resolve(hash)))
  })
}

function parseStored(stored: string | undefined) {
  const match = /^scrypt\$(\d{1,6})\$(\d{1,2})\$(\d)\$([\w+/=]+)\$([\w+/=]+)$/.exec(stored ?? '')
  if (!match) return undefined
  const hash = Buffer.from(match[5]!, 'base64')
  if (hash.length !== hashLength) return undefined
  return { salt: Buffer.from(match[4]!, 'base64'), hash, cost: { N: Number(match[1]), r: Number(match[2]), p: Number(match[3]) } }
}

/** What people choose who do not choose. Lists of leaked passwords are longer; these lead all of them. */
const common = new Set(
  `password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword pa$$word pass1234 passpass passwort motdepasse mypassword
  letmein letmein1 letmein123 changeme changeme1 changeme123 changeit iloveyou iloveyou1 iloveyou2 welcome welcome1 welcome123 trustno1 sunshine
  princess princess1 football football1 baseball baseball1 basketball superman batman spiderman starwars whatever computer internet samantha
  jennifer michelle danielle elizabeth victoria alexander charlie charlie1 michael1 jordan23 liverpool chelsea arsenal barcelona corvette
  mercedes mustang ferrari porsche harley maverick midnight mountain butterfly chocolate cocacola pokemon pokemon1 nintendo qwerty qwerty1
  qwerty12 qwerty123 qwerty1234 qwertyui qwertyuiop qwert123 qwer1234 asdfgh asdfghjk asdfghjkl asdf1234 asdfasdf zxcvbnm zxcvbnm1 zxcvbnm123
  1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qaz2wsx3edc q1w2e3r4 q1w2e3r4t5 qazwsx qazwsxedc zaq12wsx zaq1zaq1 abc123 abc12345 abcd1234 abcdefg
  abcdefgh abcdef123 a1b2c3d4 aa123456 a1234567 a12345678 123qwe 123qweasd 123456a 123456aa 123abc 12qwaszx admin admin1 admin123 admin1234
  admin12345 administrator root toor root1234 rootroot user user1234 guest guest123 test test123 test1234 testtest testing testing1 secret
  secret123 secret12 login master master123 dragon dragon123 monkey monkey123 shadow freedom summer winter hello hello123 hello1234 killer
  ninja access access14 pulp pulppulp default server private 00000000 987654321 9876543210 0987654321 147258369 123454321 123123123 12341234
  12344321 11112222 11223344 1122334455 112233445566 123321 789456123 147852369 159357456 741852963 31415926 19841984 20002000`.split(
    /\s+/,
  ),
)

function isCommon(password: string): boolean {
  // One character over and over, or characters that follow one another: 11111111, 12345678, abcdefgh, 87654321.
  const steps = new Set([...password].slice(1).map((character, at) => character.charCodeAt(0) - password.charCodeAt(at)))
  return common.has(password) || (steps.size === 1 && password.length > 2 && Math.abs([...steps][0]!) <= 1)
}
