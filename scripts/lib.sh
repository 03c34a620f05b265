# Shared by demo, test and check: finds a Python, makes .venv, installs the package. Sourced, not run.
# shellcheck shell=bash
# Runs in the bash 3.2 of macOS too: no `mapfile`, no "${array[@]}" that may be empty.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
python="$venv/bin/python"
cd -- "$root"

export PIP_DISABLE_PIP_VERSION_CHECK=1
# Without a home to write to, the caches have no place, and pip warns about it.
if [[ ! -w ${HOME:-} ]]; then export PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1; fi

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
can_make_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
venv_package() { echo "${1/%python/python3}-venv"; } # what Debian and Ubuntu call it

# The system's own first, then every version by name, the newest first: python3.11 and all after it.
python_names() {
  local minor
  echo python3
  for ((minor = 99; minor >= 11; minor--)); do
    if has "python3.$minor"; then echo "python3.$minor"; fi
  done
  echo python
}

# Each name is run, not only looked up: a version manager leaves names that start nothing.
find_python() {
  local name
  for name in $(python_names); do
    if is_recent "$name"; then echo "$name"; return; fi
  done
  die "no Python >= 3.11 here: looked for python3 (it is $(python3 --version 2>/dev/null || echo missing)), python3.11 and newer by name, and python; install one from python.org, Homebrew or your distribution, and run this again"
}

# Reached only where .venv is missing or its Python does not run.
make_venv() {
  local base
  if has uv; then
    say "making .venv with uv"
    rm -rf -- "$venv"
    uv venv --quiet --python '>=3.11' "$venv"
  else
    base=$(find_python)
    can_make_venv "$base" || die "$base cannot make a virtual environment; on Debian and Ubuntu: apt-get install $(venv_package "$base")"
    say "making .venv with $base"
    rm -rf -- "$venv"
    "$base" -m venv "$venv"
  fi
}

is_there() { "$python" -c "import $1" >/dev/null 2>&1; }

# -qq: pip's warnings about its own configuration are no news here; its errors still show.
pip_install() {
  if has uv; then
    uv pip install --quiet --python "$python" --editable "$1"
  else
    is_there pip || "$python" -m ensurepip >/dev/null # uv made this .venv and has gone since
    "$python" -m pip install -qq --editable "$1"
  fi
}

# The stamp holds the folder: a changed pyproject.toml or a moved folder installs again.
is_installed() {
  local stamp="$venv/.installed-${1:-alone}"
  [[ $stamp -nt pyproject.toml && $(<"$stamp") == "$root" ]]
}

# install_package EXTRA [or-alone]: the package, editable, with the extra or with "" alone; nothing where
# that is done. or-alone: where the extra cannot be installed, the package is all the same.
install_package() {
  local extra=$1
  is_recent "$python" || make_venv
  if is_installed "$extra" || is_installed test; then return; fi
  say "installing mlx-diffgemma${extra:+ and its $extra extra} into .venv; the first time takes a minute or two"
  if ! pip_install ".${extra:+[$extra]}"; then
    [[ ${2:-} == or-alone ]] || exit 1
    say "installing mlx-diffgemma without its $extra extra, which failed"
    extra=""
    pip_install .
  fi
  printf '%s\n' "$root" >"$venv/.installed-${extra:-alone}"
}
