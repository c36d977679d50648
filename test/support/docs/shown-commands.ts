/** What a document shows in a fenced block of a language, without the fences. */
export function fencedBlocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].flatMap(([, name, body = '']) =>
    name === language ? [body] : [],
  );
}

/** The commands of all `console` blocks, in their order, without prompt and remark. */
export function shownCommands(text: string): string[] {
  return fencedBlocks(text, 'console')
    .flatMap((block) => block.split('\n'))
    .flatMap((line) => (/^[#$] /.test(line) ? [line.slice(2).replace(/ +# .*$/, '')] : []));
}

/** Commands in the text of a document, such as `npm run demo -- --hold` or `culvert why`. */
export function inlineCommands(text: string): string[] {
  const prose = text.replace(/^```[^]*?^```$/gm, '').replace(/<!-- generated: [^]*?<!-- end -->/g, '');
  return [...prose.matchAll(/`((?:npm|culvert|culvert-agent|culvert-controller) [^`\n]+)`/g)].map(
    ([, command = '']) => command,
  );
}
