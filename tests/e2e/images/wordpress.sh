#!/bin/sh
# As the usual wordpress image: the database is named by the environment, uploads are in wp-content.
set -e
cat >/usr/share/wordpress/wp-config.php <<'PHP'
<?php
foreach (['NAME' => 'wordpress', 'USER' => 'root', 'PASSWORD' => '', 'HOST' => 'mysql'] as $name => $usual) {
    define("DB_$name", getenv("WORDPRESS_DB_$name") ?: $usual);
}
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('WP_AUTO_UPDATE_CORE', false);
define('DISABLE_WP_CRON', true);
$table_prefix = 'wp_';
defined('ABSPATH') || define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
PHP
exec "$@"
