import type { Command } from 'commander';
import type { StatusAnswer } from '../../api/api-types.js';
import { lookupOf } from '../../analysis/registry/registry-lookup.js';
import { TrafficView } from '../../analysis/traffic/service-routes.js';
import { formatHostPort } from '../../../shared/address.js';
import { serviceName, workloadName } from '../../../shared/routing/names.js';
import type { Cli } from '../cli.js';
import { loadPresentSet } from '../client/present-set.js';
import { findClients, findService } from '../input/traffic-ends.js';
import { parseWhyTarget } from '../input/why-target.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderRoutes, type ExplainedRoutes } from '../view/render-traffic.js';

/** `culvert routes`: where new connections of a workload to a service go, by the functions that agents call. */
export function addRoutesCommand(program: Command, cli: Cli): void {
  const command = program
    .command('routes')
    .description('Explain which endpoints of a service connections go to, by which documents, and with what share.')
    .argument('<source>', 'workload or service account as NAMESPACE/NAME, or its IP address')
    .argument(
      '<destination>',
      'service as NAMESPACE/NAME[:PORT] or by its address; without PORT only a service with one port',
    )
    .addHelpText('after', '\nWhether a connection is allowed is another question: culvert why')
    .addHelpText('after', 'Example: culvert routes shop/api billing/ledger:80');
  addOutputOption(command).action(async (source: string, target: string, { output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const { revision, snapshot, entries } = await loadPresentSet(client);
    const { agents } = await client.call<StatusAnswer>({ method: 'GET', path: ['status'] });
    const registry = lookupOf(entries);
    const view = new TrafficView({ snapshot, registry, clock: cli.io, agents });
    const { service, dialled } = findService(parseWhyTarget(target), registry);
    const found = findClients(source, registry).map((workload) => ({
      sources: [workloadName(workload)],
      service: serviceName(service),
      dialled: formatHostPort(dialled),
      ...view.routesTo(service, workload, dialled),
    }));
    const routes = joined(found);
    cli.io.print(output === 'table' ? renderRoutes(routes) : renderData({ revision, routes }, output));
  });
}

/** Replicas are one block: their connections go the same way. */
function joined(routes: readonly ExplainedRoutes[]): ExplainedRoutes[] {
  const groups = new Map<string, ExplainedRoutes>();
  for (const { sources, ...rest } of routes) {
    const key = JSON.stringify(rest);
    groups.set(key, { ...rest, sources: [...(groups.get(key)?.sources ?? []), ...sources] });
  }
  return [...groups.values()];
}
