import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Sends one SYN over IPv4 by a raw socket, as a program with CAP_NET_RAW can: FROM PORT TO PORT. */
const source = `
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static unsigned sum(const void *bytes, int length, unsigned so_far) {
  const unsigned short *words = bytes;
  for (; length > 1; length -= 2) so_far += *words++;
  return so_far;
}

int main(int count, char **args) {
  if (count != 5) return 2;
  struct { struct iphdr ip; struct tcphdr tcp; } packet;
  memset(&packet, 0, sizeof packet);
  packet.ip.version = 4, packet.ip.ihl = 5, packet.ip.ttl = 64, packet.ip.protocol = IPPROTO_TCP;
  packet.ip.saddr = inet_addr(args[1]), packet.ip.daddr = inet_addr(args[3]);
  packet.tcp.source = htons(atoi(args[2])), packet.tcp.dest = htons(atoi(args[4]));
  packet.tcp.syn = 1, packet.tcp.doff = 5, packet.tcp.window = htons(1000), packet.tcp.seq = htonl(1);
  unsigned check = sum(&packet.ip.saddr, 8, htons(IPPROTO_TCP) + htons(sizeof packet.tcp));
  check = sum(&packet.tcp, sizeof packet.tcp, check);
  while (check >> 16) check = (check & 0xffff) + (check >> 16);
  packet.tcp.check = ~check;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = packet.ip.daddr};
  int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  return sendto(fd, &packet, sizeof packet, 0, (void *)&to, sizeof to) == sizeof packet ? 0 : 1;
}
`;

type End = { readonly ip: string; readonly port: number };

/** Builds the sender in a directory of the caller; what it returns sends one SYN in a network namespace. */
export function rawSynSender(o: { readonly directory: string; readonly netns: string }): (from: End, to: End) => void {
  const program = join(o.directory, 'raw-syn');
  writeFileSync(`${program}.c`, source);
  execFileSync('gcc', ['-O1', '-o', program, `${program}.c`]);
  return (from, to) => {
    const ends = [from, to].flatMap(({ ip, port }) => [ip, String(port)]);
    execFileSync('ip', ['netns', 'exec', o.netns, program, ...ends]);
  };
}
