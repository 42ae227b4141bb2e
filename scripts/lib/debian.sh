# Sourced by the scripts beside it: installing what they need, from Debian's packages.

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

# need COMMAND-OR-FILE PACKAGE…: installs the packages if there is no such command or file.
need() {
  local what=$1
  shift
  if command -v "$what" >/dev/null 2>&1 || compgen -G "$what" >/dev/null; then return; fi
  say "installing $* (apt-get)"
  local sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  if [ -z "${HEARTWIRE_APT_UPDATED:-}" ]; then
    $sudo apt-get update -qq >&2
    export HEARTWIRE_APT_UPDATED=1
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# A port of 127.0.0.1 that nobody listens on.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  return 1
}
