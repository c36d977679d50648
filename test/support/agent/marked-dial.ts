/**
 * A program in Perl that dials `IP PORT MARK [LOCAL-PORT]` and prints the first line that it gets, or why it got none. With a
 * mark other than 0 it needs CAP_NET_RAW. Without a port of its own it may get one of which the kernel still tracks an earlier
 * connection.
 */
export const markedDial = `
  use strict;
  use Socket qw(:all);
  my ($ip, $port, $mark, $from) = @ARGV;
  my $is6 = $ip =~ /:/;
  socket(my $socket, $is6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die "socket: $!";
  !$mark or setsockopt($socket, SOL_SOCKET, 36, pack('l', $mark)) or die "mark: $!";
  my $any = $is6 ? pack_sockaddr_in6($from // 0, inet_pton(AF_INET6, '::')) : pack_sockaddr_in($from // 0, INADDR_ANY);
  setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or die "reuse: $!";
  bind($socket, $any) or die "bind: $!" if defined $from;
  my $to = $is6 ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $ip)) : pack_sockaddr_in($port, inet_aton($ip));
  $SIG{ALRM} = sub { print "TIMEOUT\\n"; exit };
  alarm 5;
  unless (connect($socket, $to)) { print "refused: $!\\n"; exit }
  my $got = sysread($socket, my $text, 4096);
  print defined $got ? ($got ? $text : "CLOSED\\n") : "reset: $!\\n";
`;

/**
 * A program in Perl that dials `IP PORT` again and again until it is stopped, and prints a line for each: the first one that it
 * gets, or why it got none. After 20 s without an answer it goes on to the next.
 */
export const dialOnAndOn = `
  use strict;
  use Socket qw(:all);
  $| = 1;
  my $to = pack_sockaddr_in($ARGV[1], inet_aton($ARGV[0]));
  while (1) {
    socket(my $socket, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, $_, pack('l!l!', 20, 0)) or die "timeout: $!" for SO_RCVTIMEO, SO_SNDTIMEO;
    if (!connect($socket, $to)) { print "refused: $!\\n" }
    else {
      my $got = sysread($socket, my $text, 4096);
      print defined $got ? ($got ? $text : "CLOSED") : "reset: $!", "\\n";
    }
    select undef, undef, undef, 0.003;
  }
`;
