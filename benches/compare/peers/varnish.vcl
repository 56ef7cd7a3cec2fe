vcl 4.1;
backend origin {
    .host = "@HOST@";
    .port = "@ORIGIN_PORT@";
}
sub vcl_recv {
    if (req.url ~ "^/pass/") {
        return (pass);
    }
    return (hash);
}
