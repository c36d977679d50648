import type { Command } from 'commander';
import { lookupOf } from '../../analysis/registry/registry-lookup.js';
import type { StatusAnswer } from '../../api/api-types.js';
import { serviceEndpoints } from '../../analysis/traffic/service-endpoints.js';
import type { Cli } from '../cli.js';
import { loadPresentSet } from '../client/present-set.js';
import { findService } from '../input/traffic-ends.js';
import { parseWhyTarget } from '../input/why-target.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderEndpoints } from '../view/render-traffic.js';

/** `culvert endpoints`: the endpoints of a service and their states. */
export function addEndpointsCommand(program: Command, cli: Cli): void {
  const command = program
    .command('endpoints')
    .description(
      'Show the endpoints of a service, their states, the subsets that they are in, and which agents have ejected them.',
    )
    .argument(
      '<service>',
      'service as NAMESPACE/NAME[:PORT] or by its address; without PORT only a service with one port',
    )
    .addHelpText('after', '\nExample: culvert endpoints billing/ledger');
  addOutputOption(command).action(async (target: string, { output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const { snapshot, entries } = await loadPresentSet(client);
    const { agents } = await client.call<StatusAnswer>({ method: 'GET', path: ['status'] });
    const registry = lookupOf(entries);
    const { service, dialled } = findService(parseWhyTarget(target), registry);
    const endpoints = serviceEndpoints({ snapshot, registry }, service, dialled, agents);
    cli.io.print(output === 'table' ? renderEndpoints(endpoints) : renderData(endpoints, output));
  });
}
