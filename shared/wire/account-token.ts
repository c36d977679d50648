/**
 * Whether a join token is that of a service account (a JWT, RFC 7519), as kubelet projects it into a pod. Those that the
 * controller makes begin otherwise. Says nothing of its worth.
 */
export function isAccountToken(token: string): boolean {
  return /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/.test(token);
}
