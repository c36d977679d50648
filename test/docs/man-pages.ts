import type { Argument, Command, Option } from 'commander';
import { exitCodes } from '../../controller/cli/exit-codes.js';
import { version } from '../../shared/version.js';
import { agentProgram, controllerProgram, culvertProgram } from './commands.js';

export type ManPage = { readonly file: string; readonly text: string };

/** A page for each program, made from its command line. Section 8 is for programs of the administrator. */
export async function manPages(): Promise<ManPage[]> {
  const codes = Object.values(exitCodes).map(({ code, text }) => ({ term: String(code), text }));
  const related = ['culvert(1)', 'culvert-agent(8)', 'culvert-controller(8)'];
  const daemon = [
    { term: '0', text: 'done' },
    { term: '64', text: 'the command line or a file that it names is unusable' },
    { term: '1', text: 'any other failure' },
  ];
  return [
    page(await culvertProgram(), 1, { ...ofCulvert, exits: codes, related }),
    page(agentProgram(), 8, { ...ofAgent, exits: daemon, related }),
    page(controllerProgram(), 8, { ...ofController, exits: daemon, related }),
  ];
}

type Entry = { readonly term: string; readonly text: string };

/** What the command line does not say of itself. */
type Surroundings = {
  readonly files: readonly Entry[];
  readonly environment: readonly Entry[];
  readonly examples: readonly Entry[];
};

const ofCulvert: Surroundings = {
  files: [
    { term: '~/.config/culvert/context.yaml', text: 'address, CA and token of the controller' },
    {
      term: '/var/lib/culvert/controller/admin.yaml',
      text: 'the same for the administrator, on the host of the controller',
    },
  ],
  environment: [
    { term: 'CULVERT_CONTEXT', text: 'the context file' },
    { term: 'XDG_CONFIG_HOME', text: 'in place of ~/.config' },
    { term: 'NO_COLOR', text: 'prints no colours' },
  ],
  examples: [
    { term: 'culvert diff -f rules/', text: 'what a change would allow and deny' },
    { term: 'culvert apply -f rules/ --message CHG-1182 --wait 30s', text: 'apply it, and wait for the agents' },
    { term: 'culvert why shop/web shop/db:5432', text: 'why a connection is allowed or denied' },
    { term: 'culvert routes shop/web shop/db:5432', text: 'which endpoints of a service it goes to' },
  ],
};

const ofAgent: Surroundings = {
  files: [
    { term: '/etc/culvert/agent.yaml', text: 'settings, when --config names it, as the systemd unit does' },
    { term: '/etc/culvert/agent.env', text: 'environment of the systemd unit' },
    { term: '/var/lib/culvert/agent', text: 'the state directory' },
  ],
  environment: [{ term: 'CULVERT_AGENT_*', text: 'each setting has a variable, which its option names' }],
  examples: [
    {
      term: 'culvert-agent join --node host-a --controller https://controller.example.net:15443 --token-file FILE',
      text: 'join the mesh',
    },
    { term: 'culvert-agent config --print', text: 'the settings in force, and where each comes from' },
    { term: 'culvert-agent remove', text: 'take capture out of this host' },
  ],
};

const ofController: Surroundings = {
  files: [
    {
      term: '/etc/culvert/controller.env',
      text: 'environment of the systemd unit; a command run by hand does not read it',
    },
    { term: '/var/lib/culvert/controller', text: 'the state directory: CA, keys, journal, store' },
    { term: '/var/lib/culvert/controller/admin.yaml', text: 'context file of the administrator' },
  ],
  environment: [{ term: 'CULVERT_CONTROLLER_*', text: 'each setting has a variable, which its option names' }],
  examples: [
    { term: 'culvert-controller config --print', text: 'the settings in force, and where each comes from' },
    { term: 'culvert-controller ca export --out mesh.p12 --password-file FILE', text: 'a copy of the CA' },
  ],
};

type PageParts = Surroundings & { readonly exits: readonly Entry[]; readonly related: readonly string[] };

function page(program: Command, section: number, parts: PageParts): ManPage {
  const name = program.name();
  const lines = [
    `.TH ${name.toUpperCase()} ${section} "" "culvert ${version}" "Culvert"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(lowerFirst(program.description().replace(/\.$/, '')))}`,
    '.SH SYNOPSIS',
    `.B ${escaped(name)}`,
    '[options] <command>',
    '.SH OPTIONS',
    ...optionLines(program.options),
    '.SH COMMANDS',
    ...program.commands.flatMap((command) => commandLines(command)),
    '.SH EXIT STATUS',
    ...entryLines(parts.exits),
    '.SH ENVIRONMENT',
    ...entryLines(parts.environment),
    '.SH FILES',
    ...entryLines(parts.files),
    '.SH EXAMPLES',
    ...entryLines(parts.examples),
    '.SH SEE ALSO',
    escaped(parts.related.filter((term) => term !== `${name}(${section})`).join(', ')),
  ];
  return { file: `deploy/man/${name}.${section}`, text: `${lines.join('\n')}\n` };
}

function entryLines(entries: readonly Entry[]): string[] {
  return entries.flatMap(({ term, text }) => tagged(`.B ${escaped(term)}`, text));
}

function commandLines(command: Command): string[] {
  const title = `${pathOf(command)} ${command.usage()}`;
  const own = [
    `.SS ${escaped(title)}`,
    escaped(command.description()),
    ...command.registeredArguments.flatMap((argument) => argumentLines(argument)),
    ...optionLines(command.options),
  ];
  return [...own, ...command.commands.flatMap((sub) => commandLines(sub))];
}

function pathOf(command: Command): string {
  const { parent } = command;
  return parent === null || parent.parent === null ? command.name() : `${pathOf(parent)} ${command.name()}`;
}

function argumentLines(argument: Argument): string[] {
  const { argChoices } = argument;
  const choices = argChoices === undefined ? '' : ` (${argChoices.join(', ')})`;
  return tagged(`.I ${escaped(argument.name())}`, `${argument.description}${choices}`);
}

function optionLines(options: readonly Option[]): string[] {
  return options.flatMap((option) => {
    const { argChoices, defaultValue, defaultValueDescription } = option;
    const choices = argChoices === undefined ? '' : ` (${argChoices.join(', ')})`;
    const shown: unknown = defaultValueDescription ?? defaultValue;
    const fallback = typeof shown === 'string' || typeof shown === 'number' ? ` (default: ${shown})` : '';
    return tagged(`.B ${escaped(option.flags)}`, `${option.description}${choices}${fallback}`);
  });
}

function tagged(head: string, text: string): string[] {
  return ['.TP', head, escaped(text)];
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** groff reads a hyphen as a typographic one, and a point or an apostrophe at the start of a line as a request. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .split('\n')
    .map((line) => (/^[.']/.test(line) ? `\\&${line}` : line))
    .join('\n');
}
