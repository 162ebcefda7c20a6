#!/bin/bash
# Whether a container of isoflop does what it was started for; the `HEALTHCHECK` of the Dockerfile.
#
# `isoflop watch` is healthy when its page answers, also where it asks for a token that is not given here. Any other
# verb is healthy while it runs: it ends by itself, and its exit code says how.
#
#     tools/healthcheck.sh [PROCESS]          # 1, the container's first process, unless another is named
set -uo pipefail

process=${1:-1}
mapfile -d '' -t words <"/proc/$process/cmdline" || exit 1
address=127.0.0.1 port=8080 watches=
for ((i = 1; i < ${#words[@]}; i++)); do
    case ${words[i]} in
    watch) watches=yes ;;
    --port=*) port=${words[i]#*=} ;;
    --port) port=${words[i + 1]-} ;;
    --address=*) address=${words[i]#*=} ;;
    --address) address=${words[i + 1]-} ;;
    esac
done
[ -n "$watches" ] || exit 0
# All addresses of the container: its own loopback is one of them.
case $address in 0.0.0.0 | ::) address=127.0.0.1 ;; esac

answer=
exec 3<>"/dev/tcp/$address/$port" || exit 1
printf 'HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
IFS= read -r -t 4 answer <&3
case $answer in
'HTTP/1.1 200 '* | 'HTTP/1.1 401 '*) exit 0 ;;
esac
echo "the page at $address:$port said: ${answer:-nothing}" >&2
exit 1
