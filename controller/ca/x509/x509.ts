// tsyringe inside @peculiar/x509 needs the metadata API before the library is loaded, hence the order.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto as never);

/** `@peculiar/x509` with Node's WebCrypto behind it: the one place that imports the library. */
export { x509 };
