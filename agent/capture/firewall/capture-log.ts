/** The part of a pino logger that capture uses. */
export type CaptureLog = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};
