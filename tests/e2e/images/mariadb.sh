#!/bin/sh
# As the usual mariadb image: the first start makes the system tables, the database and the user that the environment
# names; later ones find them in /var/lib/mysql.
set -e
data=/var/lib/mysql
mkdir -p /run/mysqld
if [ ! -d "$data/mysql" ]; then
    : "${MARIADB_ROOT_PASSWORD:?must be set for the first start}"
    mariadb-install-db --user=root --datadir="$data" --skip-test-db --skip-name-resolve --force --auth-root-authentication-method=normal >/dev/null
    cat >/run/mysqld/first.sql <<SQL
ALTER USER 'root'@'localhost' IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';
CREATE DATABASE IF NOT EXISTS \`${MARIADB_DATABASE:-test}\`;
CREATE USER IF NOT EXISTS '${MARIADB_USER:-app}'@'%' IDENTIFIED BY '${MARIADB_PASSWORD:-$MARIADB_ROOT_PASSWORD}';
GRANT ALL ON \`${MARIADB_DATABASE:-test}\`.* TO '${MARIADB_USER:-app}'@'%';
SQL
    set -- "$@" --init-file=/run/mysqld/first.sql
fi
exec "$@" --user=root --datadir="$data" --bind-address=0.0.0.0 --skip-name-resolve
