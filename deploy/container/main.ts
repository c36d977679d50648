import path from 'node:path';
import process from 'node:process';
import { describeError } from '../../shared/errors.js';
import { addCulvert, addNode } from '../../test/kubernetes/images/culvert-root.js';
import { ImageRoot } from '../../test/kubernetes/images/image-root.js';

/** `node dist/deploy/container/main.js FOLDER`: fills a new folder with all that is in the container image. */
const [folder] = process.argv.slice(2);
try {
  if (folder === undefined) throw new Error('name a folder that does not exist yet');
  const root = new ImageRoot(path.resolve(folder));
  await addNode(root);
  await addCulvert(root);
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}
