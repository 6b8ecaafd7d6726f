#!/usr/bin/env bash
# promtool 2.42.0 (Debian 12): `check metrics` reads the classic text format only. In OpenMetrics the metadata of a counter
# names the family without `_total`; promtool then finds no help text for the sample and exits with 3.
. "$(dirname "$0")/lib.sh"
unpack prometheus=2.42.0+ds-5+deb12u1
promtool=$folder/root/usr/bin/promtool

checked() {
    local code=0 text
    text=$(printf '%s\n' "$@" | "$promtool" check metrics 2>&1) || code=$?
    echo "$text"
    echo "exit code $code"
}

open=$(checked '# HELP requests Requests.' '# TYPE requests counter' 'requests_total 3' '# EOF')
expect 'an OpenMetrics counter has no help text for promtool' 'requests_total no help text' "$open"
expect 'and is rejected' 'exit code 3' "$open"
classic=$(checked '# HELP requests_total Requests.' '# TYPE requests_total counter' 'requests_total 3')
expect 'the same counter in the classic format is accepted' 'exit code 0' "$classic"
