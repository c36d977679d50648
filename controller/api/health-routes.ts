import { sharedAnswer } from '../../shared/http/shared-answer.js';
import type { PendingTask, ReadyAnswer } from './api-types.js';
import type { ControllerMetrics } from './controller-metrics.js';
import type { Route } from './router.js';

/** For probes and Prometheus: open to all, so they reveal no secret. */
export function healthRoutes(init: {
  readonly pending: () => readonly PendingTask[];
  readonly metrics: ControllerMetrics;
}): Route[] {
  const { pending, metrics } = init;
  const render = sharedAnswer(() => metrics.render());
  return [
    {
      method: 'GET',
      path: '/healthz',
      access: 'open',
      maxBodyBytes: 0,
      handle: () => ({ status: 200, body: { isHealthy: true } }),
    },
    {
      method: 'GET',
      path: '/readyz',
      access: 'open',
      maxBodyBytes: 0,
      handle: () => {
        const tasks = pending();
        const body: ReadyAnswer = { isReady: tasks.length === 0, pending: tasks };
        return { status: body.isReady ? 200 : 503, body };
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      access: 'open',
      maxBodyBytes: 0,
      handle: async () => {
        const { text, contentType } = await render();
        return { status: 200, body: text, contentType };
      },
    },
  ];
}
