import { CulvertError } from '../../shared/errors.js';

/** Throws CulvertError `CONFIG_INVALID`. */
export function httpsAddress(text: string | null, setting: string): URL {
  const url = text !== null && URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url?.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (url?.protocol === 'https:' && isPlain) return url;
  throw new CulvertError({
    code: 'CONFIG_INVALID',
    message: text === null ? `${setting} is missing` : `${setting}: "${text}" is not an HTTPS address`,
    hint: 'write it as https://server.example.net:8200; requests without TLS are not supported',
  });
}
