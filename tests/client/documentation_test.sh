#!/usr/bin/env bash
# The man pages and the shell completion say what --help says.
#   documentation_test.sh HOTLINE MAN-PAGE HOTLINED MAN-PAGE
set -euo pipefail
hotline=$(realpath "$1")
page=$2
hotlined=$3
hotlined_page=$4
failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

# Every option that --help lists: "-X,--request METHOD …" -> both names.
options_of() {
  "$hotline" "$@" --help |
    grep -oE '^  -[^ ]+' | tr -d ' ' | tr ',' '\n'
}
commands=$("$hotline" --help | sed -n '/^Subcommands:/,/^$/p' |
  grep -oE '^  [a-z-]+')
[ "$(wc -w <<<"$commands")" -ge 8 ] || fail "commands: $commands"

if ! diff -u "$page" <("$hotline" man); then
  fail "docs/hotline.1 is stale: hotline man > docs/hotline.1"
fi
if command -v man >/dev/null && command -v groff >/dev/null; then
  for file in "$page" "$hotlined_page"; do
    warnings=$(LC_ALL=C.UTF-8 groff -man -Tutf8 -ww "$file" 2>&1 >/dev/null)
    [ -z "$warnings" ] || fail "groff: $warnings"
  done
fi

# hotlined's page: its words on one line each, without the fonts.
words=$(grep -v '^\.[^S]' "$hotlined_page" | sed 's/\\f.//g; s/\\//g' |
  tr -s ' \n' ' ')
help=$("$hotlined" --help)
listed=$(grep -E '^  -' <<<"$help")
[ "$(wc -l <<<"$listed")" -ge 5 ] || fail "hotlined's options: $listed"
while read -r names text; do
  # "FILE  What it is for": a value in capitals.
  value=$(grep -oE '^[A-Z]+ ' <<<"$text" || true)
  text=$(sed 's/^ *//' <<<"${text#"$value"}")
  wanted="${names//,/, } ${value:+$value}$text."
  [[ $words == *"$wanted"* ]] || fail "hotlined.1: $wanted"
done <<<"$listed"
on_page=$(grep -cE '^\\fB\\-' "$hotlined_page")
[ "$on_page" -eq "$(wc -l <<<"$listed")" ] || fail "hotlined.1: $on_page options"
footer=$(sed '1,/^Signals: /{/^Signals: /!d}' <<<"$help" | tr '\n' ' ')
signals=${footer%% Exit codes:*}
[[ $words == *"${signals#Signals: }"* ]] || fail "hotlined.1: $signals"
codes=${footer##*Exit codes: }
[[ $words == *"${codes% }"* ]] || fail "hotlined.1: $codes"
version=$("$hotlined" --version | sed -n '1s/hotlined //p')
grep -q "\"hotline $version\"" "$hotlined_page" || fail "hotlined.1: $version"

plain=$(tr -d '\\' <"$page")
bash_words=$("$hotline" completion bash)
zsh_words=$("$hotline" completion zsh)
fish_words=$("$hotline" completion fish)
looked_at=0
for command in "" $commands; do
  # shellcheck disable=SC2086  # No command is no word.
  for option in $(options_of $command); do
    looked_at=$((looked_at + 1))
    [[ $plain == *"fB${option}fR"* ]] || fail "man page: $command $option"
    [[ $bash_words =~ [\ :\"]$option[\ |\)\"] ]] || fail "bash: $command $option"
    [[ $zsh_words == *"*$option["* ]] || fail "zsh: $command $option"
    case $option in
    --*) [[ $fish_words == *" -l ${option#--} "* ]] ;;
    *) [[ $fish_words == *" -s ${option#-} "* ]] ;;
    esac || fail "fish: $command $option"
  done
done
[ "$looked_at" -ge 50 ] || fail "only $looked_at options looked at"

bash -n <<<"$bash_words" || fail "bash: syntax"
if command -v zsh >/dev/null; then
  zsh -n <<<"$zsh_words" || fail "zsh: syntax"
fi

# What bash offers for "hotline WORDS…", the last one being typed.
eval "$bash_words"
offers() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  _hotline
  echo "${COMPREPLY[*]}"
}
expect() {
  local want=$1
  shift
  local got
  got=$(offers "$@")
  [ "$got" = "$want" ] || fail "'$*' completes to '$got', not to '$want'"
}
expect "stats" hotline st
expect "--view" hotline stats --vi
expect "summary targets connections leases" hotline stats --view ""
expect "ok broken discard" hotline --address a:1 release --outcome ""
expect "" hotline get --header ""
expect "" hotline get --address ""
expect "--address" hotline get --addr
expect "zsh" hotline completion z

if command -v fish >/dev/null; then
  file=$(mktemp)
  trap 'rm -f "$file"' EXIT
  echo "$fish_words" >"$file"
  got=$(HOME=$(mktemp -d) fish -c \
    "source $file; complete -C 'hotline release --outcome '" | cut -f1 | sort |
    tr '\n' ' ')
  [ "$got" = "broken discard ok " ] || fail "fish offers '$got'"
fi

[ "$failures" -eq 0 ]
