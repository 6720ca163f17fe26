#!/bin/sh
# Makes .env (passwords) and secrets/person.key here, once: what is there stays.
set -eu
umask 077
cd "$(dirname "$0")"

random() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
# A letter first: NATS reads 12e4 as a number.
password() { echo "p$(random 16)"; }

if [ ! -e .env ]; then
	{
		echo "NATS_PASSWORD=$(password)"
		for user in OWNER WRITER ANALYST OFFICER; do
			secret=$(password)
			echo "CLICKHOUSE_${user}_PASSWORD=$secret"
			echo "CLICKHOUSE_${user}_SHA256=$(printf %s "$secret" | sha256sum | cut -d' ' -f1)"
		done
	} >.env.new
	mv .env.new .env
	echo "made .env"
fi

if [ ! -e secrets/person.key ]; then
	mkdir -p secrets
	random 32 >secrets/person.key.new
	mv secrets/person.key.new secrets/person.key
	echo "made secrets/person.key: keep a copy elsewhere, no other key fits the data"
fi
# The container's user must be able to read it.
if [ "$(id -u)" = 0 ]; then
	chown 65532 secrets/person.key
else
	echo "now: sudo chown 65532 $(pwd)/secrets/person.key"
fi
