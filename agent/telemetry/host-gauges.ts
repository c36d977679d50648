import { readFileSync, readdirSync } from 'node:fs';
import { Counter, Gauge, type Registry } from 'prom-client';
import { EventLoopDelay } from '../thread/event-loop-delay.js';

/**
 * Saturation of what the agent depends on: file descriptors, memory, CPU and the control thread's event loop. Read from
 * /proc at each scrape (proc(5)). `dispose` stops measuring the event loop.
 */
export function registerHostGauges(registry: Registry): { dispose(): void } {
  const delay = new EventLoopDelay();
  const gauge = (name: string, help: string, read: () => number): void => {
    void new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  };
  gauge(
    'culvert_control_event_loop_delay_p99_seconds',
    'Event-loop delay of the control thread, 99th percentile since the last scrape.',
    () => delay.takeP99Ms() / 1000,
  );
  gauge('culvert_open_file_descriptors', 'File descriptors that the agent has open.', countDescriptors);
  gauge('culvert_max_file_descriptors', 'File descriptors that the agent may open.', descriptorLimit);
  gauge('culvert_resident_memory_bytes', 'Memory of the agent, all threads.', () => process.memoryUsage.rss());
  void new Counter({
    name: 'culvert_cpu_seconds_total',
    help: 'CPU time of the agent, all threads.',
    registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  return { dispose: () => delay.stop() };
}

/** One less than listed, because listing uses a descriptor. */
function countDescriptors(): number {
  return readdirSync('/proc/self/fd').length - 1;
}

function descriptorLimit(): number {
  const match = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  return match?.[1] === undefined || match[1] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(match[1]);
}
