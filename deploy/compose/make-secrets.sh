#!/bin/sh
# Makes every password and key of this installation, once; existing files are left alone.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets data
chmod 700 secrets data

random() { head -c 24 /dev/urandom | od -An -vtx1 | tr -d ' \n'; }
[ -e secrets/postgres_password ] || random > secrets/postgres_password
[ -e secrets/kek ] || head -c 32 /dev/urandom | base64 > secrets/kek
[ -e secrets/signing_key.pem ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out secrets/signing_key.pem
if [ ! -e secrets/rabbitmq.conf ]; then
    password=$(random)
    printf 'default_user = hub\ndefault_pass = %s\n' "$password" > secrets/rabbitmq.conf
    printf 'broker_url = "amqp://hub:%s@rabbitmq:5672/"\n' "$password" > secrets/hub.toml
    printf 'database_url = "postgresql://hub:%s@postgres:5432/hub"\n' "$(cat secrets/postgres_password)" >> secrets/hub.toml
fi
# RabbitMQ drops its rights before it reads the file; the folder around it stays closed to other users of this machine.
chmod 644 secrets/rabbitmq.conf

touch .env
grep -q '^HUB_UID=' .env || printf 'HUB_UID=%s\nHUB_GID=%s\n' "$(id -u)" "$(id -g)" >> .env
echo "Keep a copy of secrets/kek in a safe place: without it nothing in the store can be read."
