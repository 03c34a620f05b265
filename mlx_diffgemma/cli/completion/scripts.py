"""The functions that zsh, bash and fish call at Tab, and the program's answer to them.

The program is run with the words up to the cursor as its arguments, so that no shell's quotes need
reading, and with the shell's name in $_MLX_DIFFGEMMA_COMPLETE. It prints `files` or `words` (files
may stand there, or may not), then a line for each word, with its help behind a tab. Names of files
are left to the shell, which knows its own quotes, blanks and tildes.
"""

import sys
from collections.abc import Sequence

import typer

from .words import offer, program_of

VARIABLE = "_MLX_DIFFGEMMA_COMPLETE"

ZSH = r"""
_mlx_diffgemma() {
  local -a answer found
  local line kind
  answer=("${(@f)$(_MLX_DIFFGEMMA_COMPLETE=zsh ${~words[1]} \
    "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  kind=$answer[1]
  shift answer
  [[ $PREFIX == --*=* ]] && compset -P 1 '*='
  for line in $answer; do
    found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
  done
  (( $#found )) && _describe mlx-diffgemma found
  [[ $kind == files ]] && _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
compdef _mlx_diffgemma mlx-diffgemma
"""

BASH = r"""
_mlx_diffgemma() {
  local answer kind word
  COMPREPLY=()
  answer=$(_MLX_DIFFGEMMA_COMPLETE=bash "${1/#\~/$HOME}" \
    "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$2" 2>/dev/null) || return
  {
    read -r kind
    while IFS=$'\t' read -r word _; do COMPREPLY+=("$word"); done
  } <<<"$answer"
  if [[ $kind == words ]]; then compopt +o default +o bashdefault 2>/dev/null; fi
}
complete -o bashdefault -o default -F _mlx_diffgemma mlx-diffgemma
"""

FISH = r"""
function __mlx_diffgemma_complete
  set -l words (commandline -opc | string replace -r -- '^~(?=/)' "$HOME")
  set -l current (commandline -ct)
  set -l answer (env _MLX_DIFFGEMMA_COMPLETE=fish $words "$current" 2>/dev/null)
  set -l kind $answer[1]
  set -e answer[1]
  set -l before (string match -r -- '^--[^=]*=' "$current")
  if test "$kind" = files
    set -l rest (string replace -- "$before" '' "$current")
    set -a answer (complete -C "'' $rest")
  end
  for line in $answer
    echo "$before$line"
  end
end
complete -c mlx-diffgemma -f -k -a '(__mlx_diffgemma_complete)'
"""

SCRIPTS = {"zsh": ZSH, "bash": BASH, "fish": FISH}
SHELLS = tuple(SCRIPTS)


def answer(app: typer.Typer, shell: str, arguments: Sequence[str]) -> int:
    """Print what may stand at the cursor; the exit code."""
    *words, current = arguments or [""]
    found = offer(program_of(app), words, current)
    # zsh and fish match in their own ways, bash takes what it is given.
    typed = current.rpartition("=")[2] if shell == "bash" else ""
    lines = [f"{word}\t{text}" for word, text in found.words if word.startswith(typed)]
    sys.stdout.write("\n".join(["files" if found.files else "words", *lines]) + "\n")
    return 0
