import { stringify } from 'yaml';
import type { Learned } from './learn-rules.js';

/**
 * Renders learned rules as a file for `culvert apply`, with comments about what was not learned or not seen. Equal
 * records give equal bytes.
 */
export function renderLearned({ rules, notLearned, notSeen, wider }: Learned): string {
  const notes = [
    ...section('Wider than what was seen:', wider === null ? [] : [wider]),
    ...section(
      'Not learned:',
      notLearned.map(
        ({ source, destination, port, connections, why }) =>
          `${source} -> ${destination}:${port}, ${connections} ${connections === 1 ? 'connection' : 'connections'}: ${why}`,
      ),
    ),
    ...section('No connection was seen to these workloads:', notSeen.destinations),
    ...section('No connection was seen from these workloads:', notSeen.sources),
    ...section('No connection was seen to these ports of services:', notSeen.servicePorts),
  ];
  const header = ['Learned by culvert from recorded connections. Look at it before you promote it.', ...notes];
  const comments = header.map((line) => (line === '' ? '#' : `# ${line}`)).join('\n');
  const documents = rules.map((rule) => stringify(rule, { lineWidth: 0, aliasDuplicateObjects: false }));
  return `${comments}\n${documents.map((document) => `---\n${document}`).join('')}`;
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)];
}
