/* Attributes in messages of netlink(7). */
#pragma once

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

/* The first attribute of this type among `length` bytes of them; NULL if there is none. */
static inline const struct nlattr *find_attribute(const void *from, size_t length, uint16_t type) {
  const char *at = from;
  while (length >= NLA_HDRLEN) {
    const struct nlattr *attribute = (const struct nlattr *)at;
    if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > length) return NULL;
    if ((attribute->nla_type & NLA_TYPE_MASK) == type) return attribute;
    size_t step = NLA_ALIGN(attribute->nla_len);
    if (step >= length) return NULL;
    at += step;
    length -= step;
  }
  return NULL;
}

static inline const struct nlattr *find_within(const struct nlattr *nest, uint16_t type) {
  return nest == NULL ? NULL : find_attribute((const char *)nest + NLA_HDRLEN, nest->nla_len - (size_t)NLA_HDRLEN, type);
}
