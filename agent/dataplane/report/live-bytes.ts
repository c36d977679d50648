export type LiveBytes = {
  readonly direction: 'outbound' | 'inbound';
  readonly sourceWorkload: string | null;
  readonly destinationWorkload: string | null;
  readonly sent: number;
  readonly received: number;
};
