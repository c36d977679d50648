import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentView, type AgentFacts } from '../../../../agent/admin/agent-view.js';
import type { Cni } from '../../../../agent/control/cni/cni.js';

const quiet = { guardProblem: () => null, exemptionProblem: () => null, hostProblem: () => null };

function viewWith(cni: Pick<Cni, 'problem'> | null): AgentView {
  const limits = { workersWanted: 1, maxConnectionsPerWorkload: 1 };
  const facts = { capture: quiet, hostProbes: [], failModeProblem: null, ...limits } as unknown as AgentFacts;
  const view = new AgentView(facts);
  view.cni = cni as Cni | null;
  return view;
}

test('a heartbeat says whether the CNI plugin is in the chain, where the agent puts one there', () => {
  assert.equal(viewWith({ problem: null }).said().cniProblem, null);
  const said = viewWith({ problem: 'pods start without the CNI plugin: EROFS' }).said();
  assert.equal(said.cniProblem, 'pods start without the CNI plugin: EROFS');
  assert.deepEqual(said.weaknesses, [said.cniProblem], 'a controller of an earlier version reads it there');
  assert.equal('cniProblem' in viewWith(null).said(), false);
});
