import { stripVTControlCharacters } from 'node:util'

/** Past this many rows, what was done is told in short. */
export const longestTable = 40

/** Rows as aligned lines, without borders or blanks at the end. */
export function renderTable(rows: readonly (readonly string[])[], { indent = '', gap = '   ' } = {}): string {
  const widths: number[] = []
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, widthOf(cell))
  return rows
    .map((row) => `${indent}${row.map((cell, column) => padTo(cell, widths[column]!)).join(gap)}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('')
}

/** Pads by what is seen: colours take no room. */
export function padTo(cell: string, width: number): string {
  return cell + ' '.repeat(Math.max(0, width - widthOf(cell)))
}

function widthOf(cell: string): number {
  return stripVTControlCharacters(cell).length
}
