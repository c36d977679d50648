#define _GNU_SOURCE
#include "syn-queue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The IP header with options or extensions, and the ports and flags of the TCP header. */
#define COPIED_BYTES 128
/* Room for the messages of as many packets as the queue holds, so that none is lost before it is read. */
#define BYTES_PER_PACKET 2048
#define ATTRIBUTE_ROOM 16

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

typedef struct {
  _Alignas(struct nlmsghdr) char bytes[NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) + 3 * ATTRIBUTE_ROOM];
} request;

static struct nlmsghdr *begin_request(request *out, uint16_t queue) {
  memset(out, 0, sizeof *out);
  struct nlmsghdr *header = (struct nlmsghdr *)out->bytes;
  header->nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
  header->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  struct nfgenmsg *about = NLMSG_DATA(header);
  about->version = NFNETLINK_V0;
  about->res_id = htons(queue);
  return header;
}

static void add_attribute(struct nlmsghdr *header, uint16_t type, const void *value, uint16_t length) {
  struct nlattr *attribute = (struct nlattr *)((char *)header + NLMSG_ALIGN(header->nlmsg_len));
  attribute->nla_type = type;
  attribute->nla_len = (uint16_t)(NLA_HDRLEN + length);
  memcpy((char *)attribute + NLA_HDRLEN, value, length);
  header->nlmsg_len = NLMSG_ALIGN(header->nlmsg_len) + NLA_ALIGN(attribute->nla_len);
}

/* The answer is there when send returns: the kernel works on a request in the sender's system call. */
static failure receive_answer(int fd) {
  _Alignas(struct nlmsghdr) char buffer[1024];
  ssize_t length = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (length < 0) return failed("read the answer about the packet queue");
  const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;
  if (!NLMSG_OK(header, (size_t)length) || header->nlmsg_type != NLMSG_ERROR) {
    errno = EPROTO;
    return failed("understand the answer about the packet queue");
  }
  errno = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
  return errno == 0 ? success : failed("open the packet queue (nfnetlink_queue)");
}

static failure configure(int fd, uint16_t number, uint32_t max_length) {
  static const int on = 1;
  /* Without a reader that keeps up, packets are dropped, and the socket goes on. */
  if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on) != 0) return failed("set NETLINK_NO_ENOBUFS");
  const int bytes = (int)(max_length * BYTES_PER_PACKET);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0) return failed("set SO_RCVBUFFORCE");
  const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
  if (bind(fd, (const struct sockaddr *)&any, sizeof any) != 0) return failed("bind a netlink socket");

  request message;
  struct nlmsghdr *header = begin_request(&message, number);
  const struct nfqnl_msg_config_cmd command = {.command = NFQNL_CFG_CMD_BIND, .pf = htons(AF_INET)};
  const struct nfqnl_msg_config_params how = {.copy_range = htonl(COPIED_BYTES), .copy_mode = NFQNL_COPY_PACKET};
  const uint32_t length = htonl(max_length);
  add_attribute(header, NFQA_CFG_CMD, &command, sizeof command);
  add_attribute(header, NFQA_CFG_PARAMS, &how, sizeof how);
  add_attribute(header, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof length);
  if (send(fd, header, header->nlmsg_len, 0) < 0) return failed("ask for the packet queue");
  return receive_answer(fd);
}

failure open_syn_queue(uint16_t number, uint32_t max_length, int *fd) {
  *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  return *fd < 0 ? failed("create a netlink socket for packets") : configure(*fd, number, max_length);
}

failure open_replaceable_socket(int *fd) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return failed("create a socket pair");
  close(pair[1]);
  *fd = pair[0];
  return success;
}
