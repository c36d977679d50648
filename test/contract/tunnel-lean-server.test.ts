import { runTunnelContract } from './tunnel-contract.js';
import { leanServerEngine } from '../support/tunnel/tunnel-lean-engine.js';
import { runTunnelLifetimeContract } from './tunnel-lifetime-contract.js';
import { runTunnelRotationContract } from './tunnel-rotation-contract.js';

runTunnelContract(leanServerEngine);
runTunnelLifetimeContract(leanServerEngine);
runTunnelRotationContract(leanServerEngine);
