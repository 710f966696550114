// What is read of the Kubernetes API's objects, hostile ones included; and of its URL.
#include <gmock/gmock.h>
#include <string>

#include <boost/json/parse.hpp>

#include "gateway/kubernetes/endpoint_slices.h"
#include "gateway/kubernetes/node_pods.h"
#include "gateway/kubernetes/watch.h"
#include "policy/config/kubernetes.h"

namespace sluice::gateway::kubernetes {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

boost::json::object object(std::string_view text) {
  return boost::json::parse(text).as_object();
}

std::vector<std::string> names(const std::vector<policy::SocketAddress>& addresses) {
  std::vector<std::string> out;
  for (const auto& address : addresses)
    out.push_back(address.to_string());
  return out;
}

std::vector<std::string> endpoints(const EndpointSlices& slices, const std::string& port = "http",
                                   policy::AddressFamily family = policy::AddressFamily::any) {
  return names(slices.endpoints(port, family));
}

TEST(EndpointSlices, ReadyOnesOrThoseThatGoAndServeStill) {
  EndpointSlices slices;
  slices.put(object(R"({"metadata":{"name":"a"},"addressType":"IPv4",
    "ports":[{"name":"http","port":8080},{"name":"dns","port":53,"protocol":"UDP"}],
    "endpoints":[
      {"addresses":["10.0.0.3","10.0.0.30"],"conditions":{"ready":true}},
      {"addresses":["10.0.0.1"]},
      {"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true}},
      {"addresses":["10.0.0.4"],"conditions":{"ready":false}}]})"));
  EXPECT_THAT(endpoints(slices), ElementsAre("10.0.0.1:8080", "10.0.0.3:8080"));
  EXPECT_THAT(endpoints(slices, "8080"), ElementsAre("10.0.0.1:8080", "10.0.0.3:8080"));
  EXPECT_THAT(endpoints(slices, ""), ElementsAre("10.0.0.1:8080", "10.0.0.3:8080"));
  EXPECT_THAT(endpoints(slices, "dns"), IsEmpty());
  EXPECT_THAT(endpoints(slices, "8081"), IsEmpty());
  EXPECT_THAT(endpoints(slices, "http", policy::AddressFamily::ipv6), IsEmpty());
  slices.put(object(R"({"metadata":{"name":"a"},"addressType":"IPv4",
    "ports":[{"name":"http","port":8080}],
    "endpoints":[{"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true}},
                 {"addresses":["10.0.0.5"],"conditions":{"ready":false,"serving":true}}]})"));
  EXPECT_THAT(endpoints(slices), ElementsAre("10.0.0.2:8080"));
  slices.remove(object(R"({"metadata":{"name":"a"}})"));
  EXPECT_THAT(endpoints(slices), IsEmpty());
}

TEST(EndpointSlices, AnAddressInTwoSlicesIsReadyWhereOneSaysSo) {
  EndpointSlices slices;
  slices.replace(boost::json::parse(R"([
    {"metadata":{"name":"a"},"ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false}}]},
    {"metadata":{"name":"b"},"ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.1"]}]}])").as_array());
  EXPECT_THAT(endpoints(slices, ""), ElementsAre("10.0.0.1:80"));
}

TEST(EndpointSlices, WhatIsNoneIsNoEndpoint) {
  EndpointSlices slices;
  for (const char* text :
       {R"({})", R"({"metadata":7})", R"({"metadata":{"name":""}})",
        R"({"metadata":{"name":"a"},"addressType":"FQDN","ports":[{"port":80}],"endpoints":[{"addresses":["x.test"]}]})",
        R"({"metadata":{"name":"b"},"ports":[{"port":0},{"port":65536},{"port":"80"},{},7],"endpoints":[{"addresses":["10.0.0.1"]}]})",
        R"({"metadata":{"name":"c"},"ports":[{"port":80}],"endpoints":[{},7,{"addresses":[]},{"addresses":[7]},{"addresses":["no"]}]})",
        R"({"metadata":{"name":"d"},"ports":null,"endpoints":null})"})
    slices.put(object(text));
  EXPECT_THAT(endpoints(slices, ""), IsEmpty());
}

std::string text(const NodePods& pods) {
  return policy::to_text(pods.addressed());
}

TEST(NodePods, ThoseWithAnAddressOfTheirOwn) {
  NodePods pods;
  pods.replace(boost::json::parse(R"([
    {"metadata":{"namespace":"a","name":"runs","labels":{"app":"x","bad key":"y"}},
     "status":{"phase":"Running","podIP":"10.1.0.1","podIPs":[{"ip":"10.1.0.1"},{"ip":"2001:db8::1"}]}},
    {"metadata":{"namespace":"a","name":"starts"},"status":{"phase":"Pending"}},
    {"metadata":{"namespace":"a","name":"host"},"spec":{"hostNetwork":true},"status":{"phase":"Running","podIP":"192.0.2.1"}},
    {"metadata":{"namespace":"a","name":"ended"},"status":{"phase":"Succeeded","podIP":"10.1.0.2"}},
    {"metadata":{"namespace":"a","name":"broke"},"status":{"phase":"Failed","podIP":"10.1.0.3"}}, 7, {}])").as_array());
  EXPECT_EQ(text(pods), "a/runs 10.1.0.1,2001:db8::1 app=x\n");
  pods.put(object(R"({"metadata":{"namespace":"a","name":"runs"},"status":{"phase":"Succeeded","podIP":"10.1.0.1"}})"));
  EXPECT_EQ(text(pods), "");
}

TEST(NodePods, AnAddressIsThatOfWhoStays) {
  NodePods pods;
  pods.put(object(R"({"metadata":{"namespace":"a","name":"old","creationTimestamp":"2026-01-02T00:00:00Z",
    "deletionTimestamp":"2026-01-03T00:00:00Z","labels":{"trusted":"yes"}},"status":{"phase":"Running","podIP":"10.1.0.1"}})"));
  EXPECT_EQ(text(pods), "a/old 10.1.0.1 trusted=yes\n");
  pods.put(object(R"({"metadata":{"namespace":"b","name":"new","creationTimestamp":"2026-01-01T00:00:00Z"},
    "status":{"phase":"Running","podIP":"10.1.0.1"}})"));
  EXPECT_EQ(text(pods), "b/new 10.1.0.1 -\n");
  pods.put(object(R"({"metadata":{"namespace":"c","name":"newer","creationTimestamp":"2026-01-04T00:00:00Z"},
    "status":{"phase":"Running","podIP":"10.1.0.1"}})"));
  EXPECT_EQ(text(pods), "c/newer 10.1.0.1 -\n");
  pods.remove(object(R"({"metadata":{"namespace":"c","name":"newer"}})"));
  EXPECT_EQ(text(pods), "b/new 10.1.0.1 -\n");
}

TEST(KubernetesServer, Urls) {
  const auto read = [](const char* url) -> std::string {
    const auto server = policy::parse_kubernetes_server(url);
    if (!server) return "none";
    return (server->tls ? "tls " : "plain ") +
           (server->name.empty() ? server->address.to_string()
                                 : server->name + ":" + std::to_string(server->address.port)) +
           " " + server->authority;
  };
  EXPECT_EQ(read("https://192.0.2.1:6443"), "tls 192.0.2.1:6443 192.0.2.1:6443");
  EXPECT_EQ(read("https://192.0.2.1/"), "tls 192.0.2.1:443 192.0.2.1");
  EXPECT_EQ(read("https://[2001:db8::1]:6443"), "tls [2001:db8::1]:6443 [2001:db8::1]:6443");
  EXPECT_EQ(read("https://[2001:db8::1]"), "tls [2001:db8::1]:443 [2001:db8::1]");
  EXPECT_EQ(read("http://localhost:8001"), "plain localhost:8001 localhost:8001");
  EXPECT_EQ(read("https://Kubernetes.Default.svc"), "tls kubernetes.default.svc:443 Kubernetes.Default.svc");
  for (const char* url : {"", "192.0.2.1:6443", "https://", "https://x:0", "https://x:70000",
                          "https://x/path", "https://*.x", "https://[::1", "https://[::1]x",
                          "ftp://x", "https://user@x", "https://x:1-2"})
    EXPECT_EQ(read(url), "none") << url;
}

TEST(Watch, SelectorsAreEncoded) {
  EXPECT_EQ(percent_encoded("kubernetes.io/service-name=a_b"), "kubernetes.io%2Fservice-name%3Da_b");
  EXPECT_EQ(percent_encoded("a&b\xff"), "a%26b%FF");
}

}  // namespace
}  // namespace sluice::gateway::kubernetes
