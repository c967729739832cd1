import { Failure } from '../../lib/failure.ts'
import type { Dependency } from './header.ts'

/** A dependency, taken apart. Operators are those of https://rpm-software-management.github.io/rpm/manual/boolean_dependencies.html */
export type Rule =
  | { is: 'simple'; dependency: Dependency }
  | { is: 'and' | 'or' | 'with' | 'without'; rules: Rule[] }
  | { is: 'if' | 'unless'; wanted: Rule; condition: Rule; otherwise: Rule | undefined }

/** Takes a dependency apart; most are simple. Throws Failure invalid when a rich one cannot be read. */
export function parseRule(dependency: Dependency): Rule {
  if (!dependency.name.startsWith('(')) return { is: 'simple', dependency }
  // A parenthesis within a word belongs to it: libfoo.so.1()(64bit).
  const tokens = dependency.name.match(/\((?=[^\s)])(?<=^.|[\s(].)|[^\s()]+(?:\([^\s()]*\)[^\s()]*)*|\)/g) ?? []
  const wrong = (): never => {
    throw new Failure('invalid', `The rich dependency ${dependency.name} cannot be read.`)
  }
  let at = 0
  const take = () => tokens[at++] ?? wrong()

  function parseGroup(): Rule {
    if (take() !== '(') wrong()
    const first = parseOperand()
    const operator = take()
    if (operator === ')') return first
    if (operator === 'if' || operator === 'unless') {
      const condition = parseOperand()
      const next = take()
      const otherwise = next === 'else' ? parseOperand() : undefined
      if ((otherwise ? take() : next) !== ')') wrong()
      return { is: operator, wanted: first, condition, otherwise }
    }
    if (operator !== 'and' && operator !== 'or' && operator !== 'with' && operator !== 'without') return wrong()
    const rules = [first, parseOperand()]
    for (let next = take(); next !== ')'; next = take()) {
      if (next !== operator) wrong()
      rules.push(parseOperand())
    }
    return { is: operator, rules }
  }

  function parseOperand(): Rule {
    if (tokens[at] === '(') return parseGroup()
    const name = take()
    const flags = comparisons[tokens[at] ?? '']
    if (!flags) return { is: 'simple', dependency: { name } }
    at++
    const [, epoch, version, release] = /^(?:(\d+):)?([^-]*)(?:-(.*))?$/.exec(take()) ?? wrong()
    return { is: 'simple', dependency: { name, flags, epoch: epoch ?? '0', version: version ?? '', ...(release && { release }) } }
  }

  const rule = parseGroup()
  return at === tokens.length ? rule : wrong()
}

const comparisons: Readonly<Record<string, NonNullable<Dependency['flags']>>> = {
  '<': 'LT',
  '<=': 'LE',
  '=': 'EQ',
  '>=': 'GE',
  '>': 'GT',
}
