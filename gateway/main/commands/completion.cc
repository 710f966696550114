// Shell completion, made from the table of commands: what is completed is what is parsed.
#include <array>
#include <iostream>
#include <sstream>

#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"

namespace sluice::control {
namespace {

constexpr std::array kOptions{kOutputOption};

bool takes_path(const OptionSpec& option) {
  return option.value == "PATH" || option.value == "FILE";
}
bool words_are_paths(const Command& command) {
  return command.words.find("PATH") != std::string_view::npos ||
         command.words.find("FILE") != std::string_view::npos;
}

// For single quotes of any of the three shells.
std::string quoted(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out;
}

std::string names_of_commands() {
  std::string names;
  for (const Command* command : all_commands())
    names += (names.empty() ? "" : " ") + std::string(command->name);
  return names;
}

std::string bash() {
  std::ostringstream out;
  out << "# bash completion for sluice: . <(sluice completion bash)\n"
         "_sluice() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  COMPREPLY=()\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    COMPREPLY=($(compgen -W '"
      << names_of_commands()
      << " --help --version' -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case ${COMP_WORDS[1]} in\n";
  for (const Command* command : all_commands()) {
    out << "    " << command->name << ")\n      case $before in\n";
    std::string flags = "--help";
    for (const auto& option : command->options) {
      flags += " --" + std::string(option.name);
      if (option.value.empty()) continue;
      out << "        --" << option.name << ") ";
      if (!option.choices.empty())
        out << "COMPREPLY=($(compgen -W '" << option.choices << "' -- \"$word\"))";
      else if (takes_path(option))
        out << "COMPREPLY=($(compgen -f -- \"$word\"))";
      else
        out << ":";
      out << "; return ;;\n";
    }
    out << "      esac\n";
    if (!command->first_words.empty())
      out << "      [ \"$COMP_CWORD\" -eq 2 ] && COMPREPLY=($(compgen -W '" << command->first_words
          << "' -- \"$word\"))\n";
    if (words_are_paths(*command))
      out << "      [[ $word != -* ]] && COMPREPLY=($(compgen -f -- \"$word\"))\n";
    out << "      COMPREPLY+=($(compgen -W '" << flags << "' -- \"$word\")) ;;\n";
  }
  out << "  esac\n}\ncomplete -o filenames -F _sluice sluice\n";
  return out.str();
}

// Of a name:explanation pair: colons of the name, and brackets of an _arguments spec.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : quoted(text)) {
    if (c == ':' || c == '[' || c == ']') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh() {
  std::ostringstream out;
  out << "#compdef sluice\n"
         "# zsh completion for sluice: sluice completion zsh > \"${fpath[1]}/_sluice\"\n"
         "_sluice() {\n"
         "  local -a commands=(\n";
  for (const Command* command : all_commands())
    out << "    '" << command->name << ':' << zsh_text(command->summary) << "'\n";
  out << "  )\n"
         "  if (( CURRENT == 2 )); then\n"
         "    _describe -t commands command commands\n"
         "    return\n"
         "  fi\n"
         "  local command=$words[2]\n"
         "  shift words; (( CURRENT-- ))\n"
         "  case $command in\n";
  for (const Command* command : all_commands()) {
    out << "    " << command->name << ")\n      _arguments '--help[tells more]'";
    for (const auto& option : command->options) {
      out << " \\\n        '--" << option.name << (option.value.empty() ? "" : "=") << '['
          << zsh_text(option.help) << ']';
      if (!option.value.empty()) {
        out << ':' << option.value << ':';
        if (!option.choices.empty()) out << '(' << option.choices << ')';
        if (takes_path(option)) out << "_files";
      }
      out << '\'';
    }
    if (!command->first_words.empty()) out << " \\\n        '1:word:(" << command->first_words << ")'";
    if (words_are_paths(*command)) out << " \\\n        '*:file:_files'";
    out << " ;;\n";
  }
  out << "  esac\n}\n"
         "if [ \"$funcstack[1]\" = _sluice ]; then _sluice \"$@\"; else compdef _sluice sluice; fi\n";
  return out.str();
}

std::string fish() {
  std::ostringstream out;
  out << "# fish completion for sluice: sluice completion fish | source\n"
         "complete -c sluice -f\n"
         "complete -c sluice -n __fish_use_subcommand -l help -d 'tells more'\n";
  for (const Command* command : all_commands()) {
    const std::string in =
        "complete -c sluice -n '__fish_seen_subcommand_from " + std::string(command->name) + "'";
    out << "complete -c sluice -n __fish_use_subcommand -a " << command->name << " -d '"
        << quoted(command->summary) << "'\n"
        << in << " -l help -d 'tells more'\n";
    for (const auto& option : command->options) {
      out << in << " -l " << option.name;
      if (option.letter != 0) out << " -s " << option.letter;
      if (!option.choices.empty()) {
        out << " -x -a '" << option.choices << "'";
      } else if (!option.value.empty()) {
        out << (takes_path(option) ? " -r -F" : " -x");
      }
      out << " -d '" << quoted(option.help) << "'\n";
    }
    if (!command->first_words.empty()) out << in << " -a '" << command->first_words << "'\n";
    if (words_are_paths(*command)) out << in << " -F\n";
  }
  return out.str();
}

int completion(const Arguments& arguments) {
  const std::string& shell = arguments.words()[0];
  const std::string script = shell == "bash" ? bash() : shell == "zsh" ? zsh() : fish();
  if (arguments.get("output") == "json") {
    std::cout << boost::json::serialize(
                     boost::json::object{{"ok", true}, {"shell", shell}, {"script", script}})
              << '\n';
  } else {
    std::cout << script;
  }
  return kExitOk;
}

}  // namespace

const Command kCompletionCommand{
    .name = "completion",
    .words = "bash|zsh|fish",
    .summary = "Print a script that completes commands, options and their values in a shell.",
    .details =
        "bash: . <(sluice completion bash)\n"
        "zsh:  sluice completion zsh > \"${fpath[1]}/_sluice\"\n"
        "fish: sluice completion fish > ~/.config/fish/completions/sluice.fish",
    .options = kOptions,
    .min_words = 1,
    .max_words = 1,
    .run = completion,
    .first_words = "bash zsh fish",
};

}  // namespace sluice::control
