# SPDX-License-Identifier: ISC
# Helpers of the tests of `wherry cc`; sourced, with WHERRY set to the command.
set -u
: "${WHERRY:?the wherry command}"
command -v gcc >/dev/null || { echo "no gcc here"; exit 77; }
CC="$WHERRY cc"
failures=0
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

fail()
{
	echo "FAIL: $*" >&2
	failures=$((failures + 1))
}

# ok WHAT COMMAND... : it succeeds
ok()
{
	what=$1
	shift
	"$@" >out 2>err || fail "$what: status $?: $(cat err)"
}

# status N WHAT COMMAND...
status()
{
	want=$1 what=$2
	shift 2
	"$@" >out 2>err
	got=$?
	[ $got = "$want" ] || fail "$what: status $got instead of $want: $(cat err)"
}

# says FILE TEXT WHAT : out or err of the last command has the text
says()
{
	grep -qF -e "$2" "$1" || fail "$3: no '$2' in: $(cat "$1")"
}

end()
{
	[ $failures = 0 ] || exit 1
	exit 0
}
