/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* At TC, of forwarded traffic that nftables turns to this node. Every packet passes on.
 *
 * The ACK that answers a SYN cookie: nftables marks the SYN, but nothing in this node remembers it:
 * no half-open connection, no socket, so the ACK looks like one of a connection that flows past
 * Sluice. The kernel knows its own cookies; where it does, the ACK gets the SYN's mark and is
 * delivered to the listener, which makes the connection of it.
 *
 * SYNs that an entry claims are counted: where they come and no lookup follows, packets go past
 * netfilter (bypass_watch.h). Part of steer.bpf.c. */

SEC("tc")
int sluice_cookie(struct __sk_buff* skb) {
  struct transit_packet p = {};
  struct flow flow = {};
  if (!read_transit(skb, &p, &flow) || p.protocol != IPPROTO_TCP) return VERDICT_NEXT;
  bool opens = opens_connection(&p);
  if (!opens && !may_answer_cookie(&p)) return VERDICT_NEXT;

  const struct sluice_steer_segment* segment = find_forward(&flow, skb->ifindex);
  if (!segment) return VERDICT_NEXT;
  if (opens) {
    struct sluice_steer_counters* counters = counters_of(segment->group);
    if (counters) counters->arrived++;
    return VERDICT_NEXT;
  }
  const struct sluice_steer_mark* mark = transit_mark();
  if (mark && answers_cookie(&p, &flow, segment)) set_transit_mark(skb, mark);
  return VERDICT_NEXT;
}
