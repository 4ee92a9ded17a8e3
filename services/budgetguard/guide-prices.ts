// The price list of the operator guide, and what is known about those models beside their price.
//
// USD per 1 M tokens: input, cached input, output. Windows and maxima in tokens. Verified against the guide, which is
// the contract; a later row of an operator or a catalogue wins over these.

export interface SeedModel {
  provider: 'openai' | 'anthropic' | 'google' | 'echo'
  model: string
  versionTag: string
  input: string
  cacheRead: string
  output: string
  contextWindow: number
  outputMax: number
  isFree?: true
}

const openai = (
  model: string,
  date: string,
  prices: readonly [string, string, string],
  window: readonly [number, number],
): SeedModel => seed('openai', model, date === '' ? model : `${model}-${date}`, prices, window)

export const guideModels: readonly SeedModel[] = [
  openai('gpt-4.1', '2025-04-14', ['2', '0.50', '8'], [1_047_576, 32_768]),
  openai('gpt-4.1-mini', '2025-04-14', ['0.40', '0.10', '1.60'], [1_047_576, 32_768]),
  openai('gpt-4.1-nano', '2025-04-14', ['0.10', '0.025', '0.40'], [1_047_576, 32_768]),
  openai('gpt-4o', '2024-08-06', ['2.50', '1.25', '10'], [128_000, 16_384]),
  openai('gpt-4o-mini', '2024-07-18', ['0.15', '0.075', '0.60'], [128_000, 16_384]),
  openai('o1', '2024-12-17', ['15', '7.50', '60'], [200_000, 100_000]),
  openai('o1-mini', '2024-09-12', ['1.10', '0.55', '4.40'], [128_000, 65_536]),
  openai('o3-mini', '2025-01-31', ['1.10', '0.55', '4.40'], [200_000, 100_000]),
  openai('o3', '2025-04-16', ['2', '0.50', '8'], [200_000, 100_000]),
  openai('o4-mini', '2025-04-16', ['1.10', '0.275', '4.40'], [200_000, 100_000]),
  openai('codex-mini-latest', '', ['1.50', '0.375', '6'], [200_000, 100_000]),
  seed('anthropic', 'claude-opus-4-0', 'claude-opus-4-0-20250514', ['15', '1.50', '75'], [200_000, 32_000]),
  seed('anthropic', 'claude-sonnet-4-0', 'claude-sonnet-4-0-20250514', ['3', '0.30', '15'], [200_000, 64_000]),
  seed('anthropic', 'claude-3-5-sonnet-latest', 'claude-3-5-sonnet-20241022', ['3', '0.30', '15'], [200_000, 8_192]),
  seed('anthropic', 'claude-3-5-haiku-latest', 'claude-3-5-haiku-20241022', ['0.80', '0.08', '4'], [200_000, 8_192]),
  seed('google', 'gemini-2.5-pro-low', 'gemini-2.5-pro-low', ['1.25', '0.31', '10'], [1_048_576, 65_536]),
  seed('google', 'gemini-2.5-pro-high', 'gemini-2.5-pro-high', ['2.50', '0.625', '15'], [1_048_576, 65_536]),
  seed('google', 'gemini-2.5-flash', 'gemini-2.5-flash', ['0.30', '0.075', '2.50'], [1_048_576, 65_536]),
  seed('google', 'gemini-2.0-flash', 'gemini-2.0-flash', ['0.10', '0.025', '0.40'], [1_048_576, 8_192]),
  seed('google', 'gemini-2.0-flash-lite', 'gemini-2.0-flash-lite', ['0.075', '0.075', '0.30'], [1_048_576, 8_192]),
]

/** Built in outside production: they answer by themselves, so that a budget can be tried without a provider key. */
export const echoModels: readonly SeedModel[] = [
  { ...seed('echo', 'echo', 'echo', ['0', '0', '0'], [1_000_000, 1_000_000]), isFree: true },
  seed('echo', 'echo-priced', 'echo-priced', ['1', '0.10', '2'], [1_000_000, 1_000_000]),
]

function seed(
  provider: SeedModel['provider'],
  model: string,
  versionTag: string,
  [input, cacheRead, output]: readonly [string, string, string],
  [contextWindow, outputMax]: readonly [number, number],
): SeedModel {
  return { provider, model, versionTag, input, cacheRead, output, contextWindow, outputMax }
}
