#!/bin/sh
# As the usual redis image: reachable from other pods, data in /data.
set -e
[ "$1" = redis-server ] && set -- "$@" --protected-mode no --dir /data
exec "$@"
