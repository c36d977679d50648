/** What an agent is told of NATS. */
export type NatsAdvertisement = {
  readonly natsServers: readonly string[];
  readonly natsServerName: string | null;
  readonly natsCaPem: string | null;
};
