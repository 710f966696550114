// Cross-checks of the console and of tracing.
#include "policy/validate.h"

namespace sluice::policy {

namespace {

void check_admin(const Config& config, const AdminConfig& admin, Reporter& reporter) {
  const std::string address = admin.bind.to_string();
  const auto taken = [&](const std::string& by) {
    reporter.error(admin.where, "admin.bind " + address + " is the address of " + by,
                   "give the console a port of its own");
  };
  if (config.metrics && config.metrics->bind == admin.bind) taken("metrics.bind");
  for (const Listener& listener : config.listeners)
    if (listener.bind == admin.bind) taken("listener `" + listener.name + "`");
  if (!admin.names_file())
    reporter.error(admin.where, "admin.token is not the name of a file",
                   "such as file:/etc/sluice/console.token, so that a new one counts at once");
  if (!admin.bind.address.is_loopback() && admin.allow.empty())
    reporter.warning(admin.where, "whoever reaches admin.bind " + address + " may look",
                     "name them by `allow`, or bind 127.0.0.1");
}

}  // namespace

void check_observability(const Config& config, Reporter& reporter) {
  if (config.admin) check_admin(config, *config.admin, reporter);
  if (config.tracing && config.tracing->url.authority.empty())
    reporter.error(config.tracing->where,
                   "tracing.endpoint `" + config.tracing->url.text + "` is not an http or https URL",
                   "such as http://127.0.0.1:4318");
}

}  // namespace sluice::policy
