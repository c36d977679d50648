import { StringDecoder } from 'node:string_decoder';

/** The lines of a stream of UTF-8, without empty ones. Throws a RangeError at a line of more than `maxBytes`. */
export async function* splitLines(stream: AsyncIterable<unknown>, maxBytes: number): AsyncGenerator<string, void> {
  const decoder = new StringDecoder('utf8');
  let pieces: string[] = [];
  let length = 0;
  for await (const chunk of stream) {
    const [first = '', ...others] = decoder.write(chunk as Buffer).split('\n');
    pieces.push(first);
    length += first.length;
    for (const next of others) {
      if (length > 0) yield pieces.join('');
      pieces = [next];
      length = next.length;
    }
    if (length > maxBytes) throw new RangeError(`a line has more than ${maxBytes} bytes`);
  }
  const last = pieces.join('') + decoder.end();
  if (last !== '') yield last;
}
