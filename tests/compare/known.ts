/** A difference that is meant, or that cannot be told from outside. */
interface Known {
  /** Matches `<group> | <call> | <difference>`. */
  where: RegExp
  reason: string
}

export const known: readonly Known[] = []
